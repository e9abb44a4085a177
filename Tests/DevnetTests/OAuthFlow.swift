import ATProto
import Crypto
import Devnet
import Foundation
import HTTPTypes
import Keys
import Testing

/// An OAuth client on its way through the devnet, step by step. Each step can be done wrongly in one thing.
struct OAuthFlow {
    let devnet: Devnet
    /// Whose `clientKey` is the client's DPoP key.
    var user: DevnetUser
    var clientID: String
    var redirect = "http://127.0.0.1:7777/callback"
    var scope = "atproto repo:com.example.note"
    var state = "state of the client"
    var verifier = String(repeating: "v", count: 20) + UUID().uuidString
    /// Signs client assertions, where the client is a confidential one.
    var assertionKey: PrivateKey?
    /// The devnet's, where it is not the system's.
    var clock: StoppedClock?

    init(_ devnet: Devnet, _ user: DevnetUser) {
        self.devnet = devnet
        self.user = user
        clientID = "http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback&scope=" + HTTPCall.escaped(scope)
    }

    var challenge: String { Base64URL.encode(Array(SHA256.hash(data: Array(verifier.utf8)))) }

    var pushed: [(String, String)] {
        [
            ("client_id", clientID), ("response_type", "code"), ("redirect_uri", redirect), ("scope", scope), ("state", state),
            ("code_challenge", challenge), ("code_challenge_method", "S256"), ("login_hint", user.handle.description),
        ]
    }

    /// Pushes the request.
    /// - Parameter changes: replace fields; nil takes one away.
    func push(_ changes: [String: String?] = [:]) async throws -> HTTPCall.Answer { try await send(changed(pushed, changes), to: "par") }

    /// Where a browser goes with a request that was pushed.
    func authorizationURL(_ answer: HTTPCall.Answer) throws -> String {
        let uri = try #require(try answer.json["request_uri"]?.stringValue, "\(answer.text)")
        return "\(devnet.pdsURL)/oauth/authorize?client_id=\(HTTPCall.escaped(clientID))&request_uri=\(HTTPCall.escaped(uri))"
    }

    /// Pushes, has the user consent, and gives the fields of the callback.
    func callback(_ decision: Devnet.Consent = .accept) async throws -> [String: String] {
        let url = try devnet.consent(at: try authorizationURL(try await push()), as: user, decision)
        #expect(url.hasPrefix(redirect + "?"), "\(url)")
        let items = try #require(URLComponents(string: url)?.queryItems)
        return items.reduce(into: [:]) { $0[$1.name] = $1.value }
    }

    func exchange(_ code: String, _ changes: [String: String?] = [:]) async throws -> HTTPCall.Answer {
        let fields = [
            ("grant_type", "authorization_code"), ("client_id", clientID), ("code", code), ("redirect_uri", redirect),
            ("code_verifier", verifier),
        ]
        return try await send(changed(fields, changes), to: "token")
    }

    func refresh(_ token: String, _ changes: [String: String?] = [:]) async throws -> HTTPCall.Answer {
        try await send(
            changed([("grant_type", "refresh_token"), ("client_id", clientID), ("refresh_token", token)], changes), to: "token")
    }

    func revoke(_ token: String) async throws -> HTTPCall.Answer {
        try await send([("client_id", clientID), ("token", token)], to: "revoke")
    }

    /// The whole way to a session.
    func tokens() async throws -> Tokens {
        let code = try #require(try await callback()["code"])
        return try Tokens(try await exchange(code))
    }

    struct Tokens {
        let access: String
        let refresh: String

        init(_ answer: HTTPCall.Answer) throws {
            let json = try answer.json
            access = try #require(json["access_token"]?.stringValue, "\(answer.text)")
            refresh = try #require(json["refresh_token"]?.stringValue, "\(answer.text)")
        }
    }

    private func changed(_ fields: [(String, String)], _ changes: [String: String?]) -> [(String, String)] {
        var left = changes
        let kept = fields.compactMap { name, value -> (String, String)? in
            guard let change = left.removeValue(forKey: name) else { return (name, value) }
            return change.map { (name, $0) }
        }
        return kept + left.compactMap { name, value in value.map { (name, $0) } }
    }
}

extension OAuthFlow {
    /// Sends a form with a proof, and once more with the nonce when it is asked for one.
    /// - Parameter edit: changes the second proof before it is signed.
    func send(
        _ form: [(String, String)], to endpoint: String, edit: (inout DevnetJWT) -> Void = { _ in }
    ) async throws -> HTTPCall.Answer {
        let url = "\(devnet.pdsURL)/oauth/\(endpoint)"
        let first = try await HTTPCall.post(
            url, form: form + (try assertion()), headers: [.dpop: try user.dpopProof(method: "POST", url: url).text])
        #expect(try first.status == 400 && first.json["error"] == "use_dpop_nonce", "\(first.text)")
        var proof = try user.dpopProof(method: "POST", url: url, nonce: first.headers[.dpopNonce])
        edit(&proof)
        let answer = try await HTTPCall.post(url, form: form + (try assertion()), headers: [.dpop: try proof.text])
        #expect(answer.headers[.dpopNonce] != nil && answer.headers[.cacheControl] == "no-store")
        return answer
    }

    /// Calls a method of the PDS with a token and a proof, and once more with the nonce.
    func call(
        _ method: String, _ input: Value, token: String, edit: (inout DevnetJWT) -> Void = { _ in }
    ) async throws -> HTTPCall.Answer {
        let url = "\(devnet.pdsURL)/xrpc/\(method)"
        let first = try await HTTPCall.post(
            url, input,
            headers: [
                .authorization: "DPoP \(token)", .dpop: try user.dpopProof(method: "POST", url: url, accessToken: token).text,
            ])
        #expect(try first.status == 401 && first.json["error"] == "use_dpop_nonce", "\(first.text)")
        #expect(first.headers[.wwwAuthenticate]?.contains("error=\"use_dpop_nonce\"") == true)
        var proof = try user.dpopProof(method: "POST", url: url, nonce: first.headers[.dpopNonce], accessToken: token)
        edit(&proof)
        let answer = try await HTTPCall.post(
            url, input, headers: [.authorization: "DPoP \(token)", .dpop: try proof.text])
        #expect(answer.headers[.dpopNonce] != nil)
        return answer
    }

    /// The client's assertion with the key `key-1`; nothing for a public client.
    func assertion(_ edit: (inout DevnetJWT) -> Void = { _ in }) throws -> [(String, String)] {
        guard let assertionKey else { return [] }
        let now = clock?.seconds ?? Int64(Date().timeIntervalSince1970)
        var token = DevnetJWT(
            header: ["alg": "ES256", "kid": "key-1"],
            claims: [
                "iss": .string(clientID), "sub": .string(clientID), "aud": .string(devnet.pdsURL), "jti": .string(UUID().uuidString),
                "iat": .integer(now), "exp": .integer(now + 60),
            ], signer: .key(assertionKey))
        edit(&token)
        return [
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), ("client_assertion", try token.text),
        ]
    }
}

extension Devnet {
    /// A devnet whose time stands still until it is moved.
    static func run<Result>(
        _ clock: StoppedClock, lifetime: Int64 = 3600, _ body: (Devnet) async throws -> Result
    ) async throws -> Result {
        var configuration = DevnetConfiguration()
        configuration.clock = { clock.milliseconds }
        configuration.accessTokenLifetime = lifetime
        return try await run(configuration, body)
    }
}

extension HTTPField.Name {
    static var dpop: HTTPField.Name { HTTPField.Name("DPoP")! }
    static var dpopNonce: HTTPField.Name { HTTPField.Name("DPoP-Nonce")! }
}

/// Whether an answer is a refusal with this name, and why in its text.
func expectRefusal(
    _ answer: HTTPCall.Answer, _ status: Int, _ name: String, _ text: String = "", sourceLocation: SourceLocation = #_sourceLocation
) throws {
    let json = try answer.json
    let description = json["error_description"]?.stringValue ?? json["message"]?.stringValue ?? ""
    #expect(
        answer.status == status && json["error"]?.stringValue == name && (text.isEmpty || description.contains(text)),
        "\(answer.status) \(answer.text)", sourceLocation: sourceLocation)
}
