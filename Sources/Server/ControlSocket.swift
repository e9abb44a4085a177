package import Engine
package import Logging
import ServiceLifecycle
import ATProto
import NIOCore
import NIOPosix

#if canImport(Glibc)
    import Glibc
#endif

/// The operator's way into a running server: a Unix socket in the data directory, for its owner alone (0600). One command a
/// connection: a line of JSON in (`OperatorCommand.encoded`), lines of JSON out (`{"output": …}`, `{"bytes": {"$bytes": …}}`,
/// `{"progress": …}`), the last one `{"exit": 0}` or `{"exit": n, "error": name, "message": text}`.
package struct ControlSocket: Service {
    private typealias Connection = NIOAsyncChannel<ByteBuffer, ByteBuffer>
    private static let lineBytesMax = 64 * 1024

    let path: String
    let logger: Logger
    let perform: @Sendable (OperatorCommand, @escaping @Sendable (OperatorOutput) async throws -> Void) async throws -> Void

    package init(
        path: String, logger: Logger,
        perform: @escaping @Sendable (OperatorCommand, @escaping @Sendable (OperatorOutput) async throws -> Void) async throws -> Void
    ) {
        self.path = path
        self.logger = logger
        self.perform = perform
    }

    package func run() async throws {
        let address: SocketPath
        let listener: NIOAsyncChannel<Connection, Never>
        do {
            address = try SocketPath(path)
            listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .bind(unixDomainSocketPath: address.text, cleanupExistingSocketFile: true) { channel in
                    channel.eventLoop.makeCompletedFuture { try Connection(wrappingChannelSynchronously: channel) }
                }
            guard chmod(address.text, 0o600) == 0 else { throw IOError(errnoCode: errno, reason: "chmod") }
        } catch {
            throw OperatorFailure(exitCode: 3, name: "ServeFailed", message: "cannot listen on \(path): \(error)")
        }
        defer { withExtendedLifetime(address) {} }
        do {
            try await cancelWhenGracefulShutdown {
                try await listener.executeThenClose { connections in
                    try await withThrowingDiscardingTaskGroup { group in
                        for try await connection in connections {
                            group.addTask { await serve(connection) }
                        }
                    }
                }
            }
        } catch is CancellationError {
            // The server stops, and commands with it.
        }
    }

    private func serve(_ connection: Connection) async {
        do {
            try await connection.executeThenClose { inbound, outbound in
                let line = try await Self.firstLine(of: inbound)
                guard let value = try? DataModelJSON.decode(line), let command = OperatorCommand(value) else {
                    return try await Self.write(Self.ending(2, "InvalidCommand", "the line is not a command of this release"), to: outbound)
                }
                try await whileConnected(connection) {
                    do {
                        try await perform(command) { output in try await Self.write(Self.line(of: output), to: outbound) }
                        try await Self.write(["exit": 0], to: outbound)
                    } catch let failure as OperatorFailure {
                        try await Self.write(Self.ending(failure.exitCode, failure.name, failure.message), to: outbound)
                    }
                }
            }
        } catch {
            // best effort: the program at the other end has gone, or sent something else than a command.
            logger.debug("operator connection ended", metadata: ["error": "\(error)"])
        }
    }

    /// Runs a command, and cancels it when the program at the other end has gone: one that follows the log would never notice.
    private func whileConnected(_ connection: Connection, _ command: @escaping @Sendable () async throws -> Void) async throws {
        let (closed, closing) = AsyncStream<Void>.makeStream()
        connection.channel.closeFuture.whenComplete { _ in closing.finish() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask(operation: command)
            group.addTask {
                for await _ in closed {}
                throw CancellationError()
            }
            try await group.next()
            group.cancelAll()
        }
    }

    private static func firstLine(of inbound: NIOAsyncChannelInboundStream<ByteBuffer>) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        for try await part in inbound {
            bytes.append(contentsOf: part.readableBytesView)
            if let end = bytes.firstIndex(of: UInt8(ascii: "\n")) { return Array(bytes[..<end]) }
            if bytes.count > lineBytesMax { break }
        }
        return []
    }

    private static func line(of output: OperatorOutput) -> Value {
        switch output {
        case .object(let value): ["output": value]
        case .bytes(let bytes): ["bytes": .bytes(bytes)]
        case .progress(let done, let total):
            ["progress": ["done": .integer(Int64(done)), "of": total.map { .integer(Int64($0)) } ?? .null]]
        }
    }

    private static func ending(_ code: Int32, _ name: String, _ message: String) -> Value {
        ["exit": .integer(Int64(code)), "error": .string(name), "message": .string(message)]
    }

    private static func write(_ value: Value, to outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>) async throws {
        try await outbound.write(ByteBuffer(bytes: DataModelJSON.encode(value) + [UInt8(ascii: "\n")]))
    }
}

/// The path of a socket in a form that fits into a socket's address, however long it is: through a descriptor of its directory.
package final class SocketPath: Sendable {
    private static let bytesMax = 100

    /// Good for as long as this object is there.
    package let text: String
    private let directory: Int32?

    package init(_ path: String) throws {
        guard path.utf8.count > Self.bytesMax, let slash = path.lastIndex(of: "/") else {
            text = path
            directory = nil
            return
        }
        let descriptor = open(String(path[..<slash]), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw IOError(errnoCode: errno, reason: "open the directory of \(path)") }
        directory = descriptor
        text = "/proc/self/fd/\(descriptor)" + path[slash...]
    }

    deinit {
        if let directory { close(directory) }
    }
}
