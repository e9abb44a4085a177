import Hummingbird
import Logging
import NIOCore
import ServiceLifecycle
import Synchronization

/// Where the two servers listen. Set once, when both do, before anybody is told of them.
final class Listening: Sendable {
    struct Ports: Sendable {
        var plc: Int
        var pds: Int
    }

    private let known = Mutex<Ports?>(nil)

    func begins(at ports: Ports) { known.withLock { $0 = ports } }

    var ports: Ports {
        guard let ports = known.withLock({ $0 }) else { preconditionFailure("nobody calls a server that does not listen yet") }
        return ports
    }

    var plcURL: String { "http://localhost:\(ports.plc)" }
    var pdsURL: String { "http://localhost:\(ports.pds)" }
}

/// The two HTTP servers while they run.
///
/// They end by graceful shutdown and never by cancellation: that drops a connection which is being accepted, and NIO stops the
/// whole process over it ("Deinited NIOAsyncWriter without calling finish()").
final class Servers: Sendable {
    /// Owned: it ends when `ending` does, and `stop()` waits for that.
    private let running: Task<Void, any Error>
    private let ending: AsyncStream<Void>.Continuation

    private enum Name: Hashable { case plc, pds }

    private init(running: Task<Void, any Error>, ending: AsyncStream<Void>.Continuation) {
        self.running = running
        self.ending = ending
    }

    /// Servers that were dropped without `stop()` end too, only nobody waits for it.
    deinit { ending.finish() }

    /// Returns when both listen. Takes no notice of cancellation, since that would leave one of them half open.
    static func start(
        plc: Router<DevnetContext>, pds: Router<DevnetContext>, at ports: Listening.Ports, logger: Logger
    ) async throws(DevnetError) -> (servers: Servers, ports: Listening.Ports) {
        let (stream, opened) = AsyncStream<(name: Name, port: Int)>.makeStream()
        func application(_ name: Name, _ router: Router<DevnetContext>, port: Int) -> any Service {
            Application(
                router: router, configuration: .init(address: .hostname("127.0.0.1", port: port), serverName: nil),
                onServerRunning: { channel in
                    guard let port = channel.localAddress?.port else { preconditionFailure("a listening socket has a port") }
                    opened.yield((name, port))
                }, logger: logger)
        }
        let services = [application(.plc, plc, port: ports.plc), application(.pds, pds, port: ports.pds)]
        let group = ServiceGroup(services: services, logger: logger)
        let (endings, ending) = AsyncStream<Void>.makeStream()
        let running = Task {
            defer { opened.finish() }
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                tasks.addTask { try await group.run() }
                tasks.addTask {
                    for await _ in endings {}
                    await group.triggerGracefulShutdown()
                }
                // The first to fail ends the other one too.
                while try await tasks.next() != nil {}
            }
        }
        let listening = await Task {
            var listening: [Name: Int] = [:]
            for await (name, port) in stream {
                listening[name] = port
                if listening.count == services.count { break }
            }
            return listening
        }.value
        guard let plc = listening[.plc], let pds = listening[.pds] else {
            // One of them could not, and both have ended.
            switch await running.result {
            case .success: throw .notListening("the servers ended")
            case .failure(let reason): throw .notListening("\(reason)")
            }
        }
        return (Servers(running: running, ending: ending), Listening.Ports(plc: plc, pds: pds))
    }

    /// Ends both, open connections too, and returns when they have ended.
    func stop() async {
        ending.finish()
        // How they ended is in the log already.
        _ = await running.result
    }
}
