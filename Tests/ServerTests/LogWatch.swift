import Foundation
import Keys
import Logging
import Synchronization

/// Keeps every line that a service logs, at every level, and every secret that is given to it or made by it, and finds the ones in
/// the others: whole, in hexadecimal, in base64, and in pieces of sixteen bytes or more.
final class LogWatch: Sendable {
    /// A secret that stands in a line.
    struct Finding: CustomStringConvertible {
        let secret: String
        let line: String

        var description: String { "\(secret) in: \(line)" }
    }

    private struct State {
        /// The lines, but for trace ids of our own making; most requests say the same.
        var lines: Set<String> = []
        var count = 0
        /// By their bytes: what they are.
        var secrets: [[UInt8]: String] = [:]
    }

    private let state = Mutex(State())

    /// Lines logged, those that say the same counted each.
    var lineCount: Int { state.withLock { $0.count } }
    var secretCount: Int { state.withLock { $0.secrets.count } }

    /// For `Logger(label:factory:)`.
    func handler(_ label: String) -> any LogHandler { Handler(watch: self) }

    /// Takes a line that was written elsewhere.
    func note(line: String) {
        state.withLock { state in
            state.count += 1
            state.lines.insert(line)
        }
    }

    func hasLine(_ condition: (String) -> Bool) -> Bool { state.withLock { $0.lines.contains(where: condition) } }

    /// For lines that a test wrote so that they were found.
    func forget(_ findings: [Finding]) {
        state.withLock { state in for finding in findings { state.lines.remove(finding.line) } }
    }

    /// - Parameter name: says in a finding what was found, without saying it.
    func keep(_ secret: String, as name: String) { keep(Array(secret.utf8), as: name) }

    func keep(_ secret: [UInt8], as name: String) {
        guard !secret.isEmpty else { return }
        state.withLock { $0.secrets[secret] = name }
    }

    /// A key's bytes, which no key gives away but to a file.
    func keep(_ key: PrivateKey, as name: String) throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "stratos-key-\(UUID().uuidString)").path
        defer { unlink(path) }
        try KeyFile.write(key, to: path)
        keep(Array(FileManager.default.contents(atPath: path) ?? Data()), as: name)
    }

    /// A request's credentials: the header's value, and what is behind the scheme. A bare DID is no secret, and stands in lines.
    func keep(authorization value: String) {
        let credential = value.firstIndex(of: " ").map { value[$0...].dropFirst() }
        guard !(credential ?? value[...]).hasPrefix("did:") else { return }
        keep(value, as: "an Authorization header")
        guard let credential else { return }
        // A word of a few letters stands in other places too.
        guard credential.utf8.count >= 8 else { return }
        keep(String(credential), as: "a credential")
        if value.lowercased().hasPrefix("basic "), let text = Data(base64Encoded: String(credential)) {
            let password = text.drop { $0 != UInt8(ascii: ":") }.dropFirst()
            if password.count >= 4 { keep(Array(password), as: "a password") }
        }
    }

    /// What stands in a line and must not: the first twenty, for whatever is logged once is logged with every request.
    func findings() -> [Finding] {
        let (lines, secrets) = state.withLock { ($0.lines, $0.secrets) }
        let text = Array(lines.joined(separator: "\n").utf8)
        let pieces = Set(Self.words(of: text, step: 1))
        var found: [Finding] = []
        for (secret, name) in secrets where found.count < 20 {
            for form in Self.forms(of: secret) where Self.mayStand(form, in: pieces) {
                for line in lines where Self.stands(form, in: line) { found.append(Finding(secret: name, line: line)) }
            }
        }
        return found
    }

    /// Bytes that are text stand for themselves; those of a key are also written in digits. Base64 depends on where in a longer text
    /// the bytes begin: a key in DER, in PEM.
    private static func forms(of secret: [UInt8]) -> [[UInt8]] {
        let isText = secret.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
        if isText, secret.count > 64 { return [secret] }
        var forms = isText ? [secret] : []
        let hex = secret.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        forms += [Array(hex.utf8), Array(hex.uppercased().utf8)]
        for shift in 0..<3 {
            let whole = Data([UInt8](repeating: 0, count: shift) + secret).base64EncodedString().utf8
            // The digits at both ends hold bits of the neighbours.
            let digits = Array(whole.prefix { $0 != UInt8(ascii: "=") }.dropFirst(shift == 0 ? 0 : shift + 1).dropLast())
            forms.append(digits)
            forms.append(digits.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: "-") : $0 == UInt8(ascii: "/") ? UInt8(ascii: "_") : $0 })
        }
        return forms
    }

    /// Eight bytes each, as one number.
    private static func words(of bytes: [UInt8], step: Int) -> [UInt64] {
        guard bytes.count >= 8 else { return [] }
        return bytes.withUnsafeBytes { bytes in
            stride(from: 0, through: bytes.count - 8, by: step).map { bytes.loadUnaligned(fromByteOffset: $0, as: UInt64.self) }
        }
    }

    /// Whether it is worth looking line by line: sixteen bytes of a form hold eight that begin at a multiple of eight.
    private static func mayStand(_ form: [UInt8], in pieces: Set<UInt64>) -> Bool {
        form.count < 16 || words(of: form, step: 8).contains(where: pieces.contains)
    }

    private static func stands(_ form: [UInt8], in line: String) -> Bool {
        let line = Data(line.utf8)
        guard form.count > 16 else { return line.range(of: Data(form)) != nil }
        return (0...form.count - 16).contains { line.range(of: Data(form[$0..<$0 + 16])) != nil }
    }
}

extension LogWatch {
    private struct Handler: LogHandler {
        let watch: LogWatch
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        init(watch: LogWatch) { self.watch = watch }

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            var all = metadata.merging(event.metadata ?? [:]) { $1 }
            if let trace = all["trace"]?.description, trace.utf8.count == 16, trace.allSatisfy(\.isHexDigit) { all["trace"] = nil }
            let fields = all.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
            watch.note(line: "\(event.level) \(event.message) \(fields) \(event.error.map { "\($0)" } ?? "")")
        }
    }
}
