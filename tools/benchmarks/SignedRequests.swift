import ATProto
import Devnet
import Glibc
import Simulation

/// Requests with the credentials of devnet accounts. Each has a proof or a token of its own; an access token serves for all requests of
/// its user, as it does in the field.
struct SignedRequests {
    enum Kind: Sendable {
        /// An access token, and a proof of possession for each request.
        case dpop
        /// An inter-service token for each request.
        case serviceToken
    }

    /// A request before anybody signs for it.
    struct Plain: Sendable {
        let target: String
        let body: String?
    }

    let kind: Kind
    let users: [DevnetUser]
    let port: UInt16
    private let accessTokens: [String]

    init(kind: Kind, users: [DevnetUser], port: UInt16) throws {
        self.kind = kind
        self.users = users
        self.port = port
        accessTokens = try users.map { try $0.accessToken().text }
    }

    /// - Parameters:
    ///   - count: for each user.
    ///   - method: the NSID.
    ///   - plain: the next request of a user.
    /// - Returns: the requests as bytes, of one user after the other in turn.
    func sign(_ count: Int, verb: String, method: String, _ plain: (_ user: Int) -> Plain) async throws -> [[UInt8]] {
        let requests = users.indices.map { user in (0..<count).map { _ in plain(user) } }
        let nonce = try HTTPLoad.nonce(port: port)
        return try await withThrowingTaskGroup(of: (Int, [[UInt8]]).self) { group in
            for user in users.indices {
                group.addTask {
                    let signed = try requests[user].map { plain in
                        HTTPLoad.request(
                            verb, plain.target, headers: try credential(of: user, verb: verb, method: method, nonce: nonce),
                            json: plain.body)
                    }
                    return (user, signed)
                }
            }
            var signed = [[[UInt8]]](repeating: [], count: users.count)
            for try await (user, requests) in group { signed[user] = requests }
            return (0..<count).flatMap { number in signed.map { $0[number] } }
        }
    }

    private func credential(
        of user: Int, verb: String, method: String, nonce: String
    ) throws -> [(name: String, value: String)] {
        switch kind {
        case .dpop:
            let proof = try users[user].dpopProof(
                method: verb, url: "http://localhost:\(port)/xrpc/\(method)", nonce: nonce, accessToken: accessTokens[user])
            return [("Authorization", "DPoP \(accessTokens[user])"), ("DPoP", try proof.text)]
        case .serviceToken:
            let token = try users[user].serviceAuth(audience: StratosPosts.service, method: method, lifetime: 600)
            return [("Authorization", "Bearer \(try token.text)")]
        }
    }
}

extension HTTPLoad {
    /// The nonce that the service gives out now.
    static func nonce(port: UInt16) throws -> String {
        let connection = try HTTPConnection(port: port)
        guard let nonce = try connection.ask("GET", "/health")["dpop-nonce"] else { throw BenchmarkFailure("the server gave no nonce") }
        return nonce
    }
}
