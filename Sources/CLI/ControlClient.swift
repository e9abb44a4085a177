import ATProto
import Engine
import Glibc
import Server

/// The program's end of `stratos.sock`: sends a command to the running server and takes its lines.
struct ControlClient: ~Copyable {
    private let descriptor: Int32
    private var buffer: [UInt8] = []

    /// Nil where no server listens.
    init?(path: String) throws(Problem) {
        let short: SocketPath
        do { short = try SocketPath(path) } catch {
            // best effort: where there is no directory, nobody listens in it; who opens it next says what is wrong.
            return nil
        }
        defer { withExtendedLifetime(short) {} }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: short.text.utf8) }
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { throw Self.failure("socket", errno) }
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        if code != 0 {
            let reason = errno
            close(descriptor)
            guard reason == ENOENT || reason == ECONNREFUSED else { throw Self.failure("connect to \(path)", reason) }
            return nil
        }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// Runs a command in the server.
    /// - Parameter take: is given what the command gives, as it comes.
    mutating func perform(_ command: OperatorCommand, take: (OperatorOutput) throws -> Void) throws {
        try send(DataModelJSON.encode(command.encoded) + [UInt8(ascii: "\n")])
        while let line = try nextLine(whileRead: command.isEndless) {
            guard let value = try? DataModelJSON.decode(line) else { break }
            if let code = value["exit"]?.integerValue {
                guard code != 0 else { return }
                throw OperatorFailure(
                    exitCode: Int32(code), name: value["error"]?.stringValue ?? "Failed", message: value["message"]?.stringValue ?? "")
            }
            if let output = value["output"] { try take(.object(output)) }
            if let bytes = value["bytes"]?.bytesValue { try take(.bytes(bytes)) }
            if let progress = value["progress"], let done = progress["done"]?.integerValue {
                try take(.progress(done: Int(done), of: progress["of"]?.integerValue.map(Int.init)))
            }
        }
        // The server notices that nobody listens, and ends the command.
        if command.isEndless, Output.isReaderGone() { return }
        throw Problem(status: .inputOutput, error: "ServerGone", message: "the server ended before the command was done")
    }

    private func send(_ bytes: [UInt8]) throws(Problem) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress! + sent, bytes.count - sent) }
            if count < 0 {
                if errno == EINTR { continue }
                throw Self.failure("write to the server", errno)
            }
            sent += count
        }
    }

    /// The next line without its end; nil at the end of the stream.
    /// - Parameter isRead: whether it is the end, too, that nobody reads standard output any more.
    private mutating func nextLine(whileRead isRead: Bool) throws(Problem) -> [UInt8]? {
        var searched = 0
        while true {
            if let end = buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) {
                defer { buffer.removeFirst(end + 1) }
                return Array(buffer[..<end])
            }
            searched = buffer.count
            if isRead {
                try waitForServerOrReader()
                if Output.isReaderGone() { return nil }
            }
            var piece = [UInt8](repeating: 0, count: 1 << 16)
            let count = piece.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
            if count == 0 { return nil }
            if count < 0 {
                if errno == EINTR { continue }
                throw Self.failure("read from the server", errno)
            }
            buffer += piece[..<count]
        }
    }

    /// Until the server has said something, or something has become of standard output.
    private func waitForServerOrReader() throws(Problem) {
        var requests = [
            pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0), pollfd(fd: STDOUT_FILENO, events: 0, revents: 0),
        ]
        while poll(&requests, 2, -1) < 0 {
            guard errno == EINTR else { throw Self.failure("wait for the server", errno) }
        }
    }

    private static func failure(_ operation: String, _ code: Int32) -> Problem {
        Problem(status: .inputOutput, error: "ServerUnreachable", message: "\(operation): \(String(cString: strerror(code)))")
    }
}
