import Authorization
import Synchronization

/// The Internet as a table: what stands at each URL, and which were asked for.
final class FakeWeb: Sendable {
    private struct State {
        var pages: [String: Result<OutboundResponse, OutboundError>] = [:]
        var requests: [OutboundRequest] = []
    }

    private let state = Mutex(State())

    /// What is not in the table is answered 404.
    var outbound: Outbound {
        Outbound { [self] request async throws(OutboundError) in
            let page = state.withLock { state in
                state.requests.append(request)
                return state.pages[request.url]
            }
            return try page?.get() ?? OutboundResponse(status: 404, contentType: nil, body: [])
        }
    }

    func set(_ url: String, _ text: String, status: Int = 200, type: String? = "application/json") {
        set(url, .success(OutboundResponse(status: status, contentType: type, body: [UInt8](text.utf8))))
    }

    func set(_ url: String, _ result: Result<OutboundResponse, OutboundError>) {
        state.withLock { $0.pages[url] = result }
    }

    var requests: [OutboundRequest] { state.withLock { $0.requests } }

    /// How often `url` was asked for.
    func count(_ url: String) -> Int { requests.count { $0.url == url } }
}
