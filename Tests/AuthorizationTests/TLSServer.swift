import Foundation
import Simulation

/// `openssl s_server` with a certificate that it has signed itself.
final class TLSServer {
    let port: UInt16
    /// The path of the certificate, in PEM.
    let certificate: String
    private let process: Process
    private let directory: URL

    /// - Returns: nil where there is no `openssl`, with a printed reason.
    static func start(name: String) throws -> TLSServer? {
        guard FileManager.default.isExecutableFile(atPath: openssl) else {
            TestFiles.note("skipped: there is no \(openssl), so no certificate was tried")
            return nil
        }
        return try TLSServer(name: name)
    }

    private static let openssl = "/usr/bin/openssl"

    private init(name: String) throws {
        directory = FileManager.default.temporaryDirectory.appending(path: "stratos-tls-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        let certificate = directory.appending(path: "certificate.pem").path
        let key = directory.appending(path: "key.pem").path
        try Self.run([
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", certificate,
            "-days", "2", "-subj", "/CN=\(name)", "-addext", "subjectAltName=DNS:\(name)",
        ])
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(filePath: Self.openssl)
        process.arguments = ["s_server", "-accept", "127.0.0.1:0", "-cert", certificate, "-key", key, "-www"]
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        var text = ""
        var port: UInt16?
        while port == nil {
            let data = output.fileHandleForReading.availableData
            guard !data.isEmpty else { throw CocoaError(.executableLoad) }
            text += String(decoding: data, as: UTF8.self)
            port = text.split(separator: "\n").first { $0.hasPrefix("ACCEPT ") && text.hasSuffix("\n") }
                .flatMap { UInt16($0.split(separator: ":").last ?? "") }
        }
        self.port = port!
        self.certificate = certificate
        self.process = process
    }

    deinit {
        // Another test's server may have made this process ignore SIGTERM, and its children inherit that.
        kill(process.processIdentifier, SIGKILL)
        // best effort: a directory below the system's temporary one.
        try? FileManager.default.removeItem(at: directory)
    }

    private static func run(_ arguments: [String]) throws {
        let process = Process()
        process.executableURL = URL(filePath: openssl)
        process.arguments = arguments
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw CocoaError(.executableLoad) }
    }
}
