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
final class Servers: Sendable {
    private let group: ServiceGroup
    /// Owned: `stop()` waits for its end, `deinit` cancels it.
    private let running: Task<Void, any Error>

    private enum Name: Hashable { case plc, pds }

    private init(group: ServiceGroup, running: Task<Void, any Error>) {
        self.group = group
        self.running = running
    }

    /// Servers that were dropped without `stop()` end too, only not in order.
    deinit { running.cancel() }

    /// Returns when both listen.
    static func start(
        plc: Router<BasicRequestContext>, pds: Router<BasicRequestContext>, at ports: Listening.Ports, logger: Logger
    ) async throws(DevnetError) -> (servers: Servers, ports: Listening.Ports) {
        let (stream, opened) = AsyncStream<(name: Name, port: Int)>.makeStream()
        func application(_ name: Name, _ router: Router<BasicRequestContext>, port: Int) -> any Service {
            Application(
                router: router, configuration: .init(address: .hostname("127.0.0.1", port: port), serverName: nil),
                onServerRunning: { channel in
                    guard let port = channel.localAddress?.port else { preconditionFailure("a listening socket has a port") }
                    opened.yield((name, port))
                }, logger: logger)
        }
        let services = [application(.plc, plc, port: ports.plc), application(.pds, pds, port: ports.pds)]
        let group = ServiceGroup(services: services, logger: logger)
        let running = Task {
            defer { opened.finish() }
            try await group.run()
        }
        var listening: [Name: Int] = [:]
        for await (name, port) in stream {
            listening[name] = port
            if listening.count == services.count { break }
        }
        guard let plc = listening[.plc], let pds = listening[.pds] else {
            // Either they have ended already, or the caller was cancelled while it waited for them.
            running.cancel()
            switch await running.result {
            case .success: throw .notListening("the servers ended")
            case .failure(let reason): throw .notListening("\(reason)")
            }
        }
        return (Servers(group: group, running: running), Listening.Ports(plc: plc, pds: pds))
    }

    /// Ends both, open connections too, and returns when they have ended.
    func stop() async {
        await group.triggerGracefulShutdown()
        // How they ended is in the log already.
        _ = await running.result
    }
}
