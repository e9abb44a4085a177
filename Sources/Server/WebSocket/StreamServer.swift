package import ATProto
package import Authorization
package import Engine
package import Logging
import Commands
import EventLog
import NIOCore
import NIOHTTP1
import Synchronization

/// Serves `zone.stratos.sync.subscribeRecords` over WebSockets (wire contract, section 7). What is wrong with a request is told in an
/// error frame after the handshake, since browsers see no other answer to it; then the connection is closed with 1008.
package struct StreamServer: Sendable {
    static let method: NSID = {
        do { return try NSID("zone.stratos.sync.subscribeRecords") } catch { preconditionFailure("\(error)") }
    }()
    private static let path = "/xrpc/\(method)"
    private static let subprotocol = "xrpc.v0.cbor"
    private static let tokenPrefix = "stratos.bearer."

    let limits: StreamLimits
    private let streams: Streams
    private let service: DID
    private let publicURL: String
    private let authenticator: Authenticator
    private let syncToken: SyncToken?
    private let lexicons: Lexicons
    private let logger: Logger
    private let room: StreamRoom
    /// Who has not been found to have a right to a stream yet: as many as may have one, beside those who do.
    private let handshakes: StreamRoom

    /// - Parameters:
    ///   - service: the service's own DID: whoever has the sync token acts in its name.
    ///   - syncToken: nil: services prove who they are with tokens of their own.
    package init(
        streams: Streams, service: DID, publicURL: String, authenticator: Authenticator, syncToken: SyncToken?, lexicons: Lexicons,
        limits: StreamLimits, logger: Logger
    ) {
        self.streams = streams
        self.service = service
        self.publicURL = publicURL
        self.authenticator = authenticator
        self.syncToken = syncToken
        self.lexicons = lexicons
        self.limits = limits
        self.logger = logger
        room = StreamRoom(countMax: limits.connectionsMax)
        handshakes = StreamRoom(countMax: limits.connectionsMax)
    }

    /// Streams that are open.
    package var openCount: Int { room.count }

    // MARK: The handshake

    /// Whether a request is a whole and right handshake for a stream; any other is answered as HTTP.
    func isStream(_ head: HTTPRequestHead) -> Bool {
        let target = head.uri.utf8.prefix { $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
        return head.method == .GET && target.elementsEqual(Self.path.utf8) && head.version == .http1_1
            && head.headers[canonicalForm: "upgrade"].contains { $0.lowercased() == "websocket" }
            && head.headers[canonicalForm: "connection"].contains { $0.lowercased() == "upgrade" }
            && head.headers["sec-websocket-version"] == ["13"]
            && head.headers["sec-websocket-key"].count == 1 && Self.isKey(head.headers["sec-websocket-key"][0])
            && !head.headers.contains(name: "transfer-encoding") && (head.headers["content-length"].first ?? "0") == "0"
    }

    /// Sixteen bytes in base64.
    private static func isKey(_ text: String) -> Bool {
        text.utf8.count == 24 && text.hasSuffix("==")
            && text.utf8.dropLast(2).allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                    UInt8(ascii: "+"), UInt8(ascii: "/"):
                    true
                default: false
                }
            }
    }

    /// What stands in the answer to the handshake beside what belongs to it. Of the protocols that are offered the one that is a protocol
    /// is agreed to; a token among them is not sent back.
    func upgradeHeaders(for head: HTTPRequestHead) -> HTTPHeaders {
        var headers: HTTPHeaders = ["DPoP-Nonce": authenticator.nonce]
        if offers(of: head).contains(Self.subprotocol) { headers.add(name: "Sec-WebSocket-Protocol", value: Self.subprotocol) }
        return headers
    }

    private func offers(of head: HTTPRequestHead) -> [String] { head.headers[canonicalForm: "sec-websocket-protocol"].map(String.init) }

    // MARK: The stream

    /// Serves one subscriber to the end of the connection. A place among the streams is for whoever has a right to one.
    func serve(_ connection: WebSocketConnection, _ head: HTTPRequestHead) async {
        guard handshakes.enter() else { return await refuse(connection) }
        let subscription: StreamSubscription
        do {
            defer { handshakes.leave() }
            subscription = try await self.subscription(for: head)
        } catch {
            return await end(connection, error)
        }
        guard room.enter() else { return await refuse(connection) }
        defer { room.leave() }
        logger.debug("stream opened", metadata: ["method": .string(Self.method.description)])
        let stop = subscription.stop
        connection.whenClosing { stop.stop() }
        do {
            while let batch = try await subscription.next() { try await connection.send(batch.content.frames) }
        } catch {
            await end(connection, error)
        }
        // Where the client began to close, or went: nothing is left to be said, and this returns when the connection is closed.
        await connection.close(WebSocketClose(code: 1000, reason: ""))
        logger.debug("stream closed", metadata: ["method": .string(Self.method.description)])
    }

    private func refuse(_ connection: WebSocketConnection) async {
        let message = StreamFrames.error("TooManyConnections", "Too many streams are open; try again later")
        await connection.close(WebSocketClose(code: 1013, reason: "TooManyConnections"), after: message)
    }

    private func end(_ connection: WebSocketConnection, _ error: any Error) async {
        let end = StreamEnd(error)
        if end.isUnforeseen { logger.error("a stream was cut off", metadata: ["error": "\(error)"]) }
        await connection.close(end.close, after: end.frame)
    }

    /// What is told at this moment to whoever sends this, an error included: a stream without its connection.
    func told(_ target: String, _ headers: [(String, String)]) async -> [[UInt8]] {
        var frames: [[UInt8]] = []
        do {
            let head = HTTPRequestHead(version: .http1_1, method: .GET, uri: target, headers: HTTPHeaders(headers))
            let subscription = try await subscription(for: head)
            while let batch = try await subscription.next(waits: false) { frames += batch.content.frames }
        } catch {
            frames.append(StreamEnd(error).frame)
        }
        return frames
    }

    private func subscription(for head: HTTPRequestHead) async throws -> StreamSubscription {
        let parameters: ValueMap
        do {
            parameters = try lexicons.coerceParameters(of: Self.method, from: try QueryString.pairs(in: head.uri))
        } catch let error as XRPCError {
            throw error
        } catch {
            throw XRPCError.invalidRequest("\(error)")
        }
        let cursor = parameters["cursor"]?.integerValue
        if let cursor, cursor < 0 || cursor >= 1 << 53 { throw XRPCError.invalidRequest("the cursor is not one that this service gave") }
        var domain: String?
        if let name = parameters["domain"]?.stringValue {
            // A name of another service is one that no record has here.
            domain = BoundaryName.qualify(name, service: service.description) ?? name
        }
        let caller = try await caller(head, syncToken: parameters["syncToken"]?.stringValue)
        var topic = StreamTopic.enrollments
        if let did = parameters["did"]?.stringValue { topic = .commits(of: try DID(did)) }
        return try await streams.subscribe(to: topic, after: cursor.map(UInt64.init), domain: domain, as: caller)
    }

    // MARK: Who subscribes

    /// A client has three places for a credential, and uses one of them.
    private func caller(_ head: HTTPRequestHead, syncToken given: String?) async throws -> Caller {
        let offered = offers(of: head).filter { $0.hasPrefix(Self.tokenPrefix) }.map { String($0.dropFirst(Self.tokenPrefix.count)) }
        let authorization = head.headers["authorization"]
        guard (given == nil ? 0 : 1) + offered.count + authorization.count <= 1 else {
            throw XRPCError.authenticationRequired("One credential is expected, not several")
        }
        if let given {
            if let syncToken, syncToken.matches(given) { return .appView(service) }
            return try await caller(byToken: given)
        }
        if let token = offered.first { return try await caller(byToken: token) }
        guard !authorization.isEmpty else {
            throw XRPCError.authenticationRequired("syncToken query param or Authorization header required")
        }
        return try await caller(authorization: authorization, proofs: head.headers["dpop"])
    }

    /// By an inter-service token and by nothing else that may stand behind `Bearer`.
    private func caller(byToken token: String) async throws -> Caller {
        guard !token.hasPrefix("did:"), token.utf8.count(where: { $0 == UInt8(ascii: ".") }) == 2 else {
            throw XRPCError.authenticationRequired("Authorization failed")
        }
        return try await caller(authorization: ["Bearer \(token)"], proofs: [])
    }

    private func caller(authorization: [String], proofs: [String]) async throws -> Caller {
        let credentials = Credentials(
            authorization: authorization, proofs: proofs, httpMethod: "GET", url: publicURL + Self.path, method: Self.method.description,
            isProcedure: false, address: { nil })
        guard let proven = try await authenticator.authenticate(credentials) else {
            throw XRPCError.authenticationRequired("syncToken query param or Authorization header required")
        }
        return proven.caller
    }
}

/// How a stream ends for its client.
private struct StreamEnd {
    let close: WebSocketClose
    let frame: [UInt8]
    /// Whether somebody should look into it.
    let isUnforeseen: Bool

    init(_ error: any Error) {
        var code: UInt16 = 1008
        let name: String, message: String
        var isUnforeseen = false
        switch error {
        case let refusal as StreamRefusal:
            (name, message) = (refusal.name, refusal.message)
            if refusal == .unavailable { code = 1013 }
        case let refusal as CredentialRefusal:
            let error = XRPCError(refusal)
            (name, message) = (error.name, error.message)
            if case .unavailable = refusal { code = 1013 }
        case let error as XRPCError: (name, message) = (error.name, error.message)
        case is WebSocketClosed: (name, message) = ("Closed", "the connection is closed")  // Nobody is there who is told this.
        default:
            if let error = XRPCError(wording: error) {
                (name, message) = (error.name, error.message)
                code = 1013
            } else {
                (name, message) = (XRPCError.internalServerError.name, XRPCError.internalServerError.message)
                code = 1011
                isUnforeseen = !(error is CancellationError) && !Self.isOfConnection(error)
            }
        }
        self.isUnforeseen = isUnforeseen
        frame = StreamFrames.error(name, message)
        close = WebSocketClose(code: code, reason: name)
    }

    /// A client who goes is no error of ours.
    private static func isOfConnection(_ error: any Error) -> Bool { error is ChannelError || error is IOError }
}

/// Places for so many at a time.
final class StreamRoom: Sendable {
    private let countMax: Int
    private let entered = Mutex(0)

    init(countMax: Int) { self.countMax = countMax }

    var count: Int { entered.withLock { $0 } }

    func enter() -> Bool {
        entered.withLock { count in
            guard count < countMax else { return false }
            count += 1
            return true
        }
    }

    func leave() { entered.withLock { $0 -= 1 } }
}
