import ATProto
import Authorization
import Foundation
import Keys
import Synchronization

/// An account's directory, PDS and authorization server, in memory, with everything about them open to change: it is as strict as a real
/// one about what clients send, and answers as a test says. Accounts are Alice's and Bob's, on one PDS.
final class FakeAccountServer: Sendable {
    static let issuer = "https://issuer.example.com"
    static let pds = "https://pds.example.com"
    static let alice = "did:plc:aliceaaaaaaaaaaaaaaaaaaa"
    static let bob = "did:plc:bobbobbobbobbobbobbobbob"
    static let handle = "alice.example.org"

    struct State {
        var metadata: ValueMap
        var resource: ValueMap
        var handles: [String: String] = [handle: alice]
        var pdsOf: [String: String] = [alice: pds, bob: pds]
        /// What was pushed, by its request_uri.
        var pushed: [String: [String: String]] = [:]
        var codes: [String: [String: String]] = [:]
        /// The refresh token in force, and those that were exchanged for it; by account.
        var refresh: [String: String] = [:]
        var exchanged: Set<String> = []
        var access: [String: (account: String, thumbprint: String)] = [:]
        var nonce: String?
        /// Changes what the token endpoint gives.
        var changesTokens: @Sendable (inout ValueMap) -> Void = { _ in }
        /// Stands in for the answer at a URL's path; nil answers as ever.
        var answers: [String: @Sendable (Int) -> OutboundResponse?] = [:]
        var counts: [String: Int] = [:]
        var revoked: [String] = []
        var records: [String: (cid: CID, value: Value)] = [:]
        var clientKeys: [JWK] = []
        var number = 0
        var requests: [OutboundRequest] = []
        /// Whether a refresh token that was exchanged may be used again.
        var forgivesRepeats = false
    }

    let state: Mutex<State>
    private let clock: @Sendable () -> Int64

    init(clock: @escaping @Sendable () -> Int64) {
        self.clock = clock
        state = Mutex(
            State(
                metadata: [
                    "issuer": .string(Self.issuer), "authorization_endpoint": .string(Self.issuer + "/authorize"),
                    "token_endpoint": .string(Self.issuer + "/token"), "revocation_endpoint": .string(Self.issuer + "/revoke"),
                    "pushed_authorization_request_endpoint": .string(Self.issuer + "/par"),
                    "require_pushed_authorization_requests": true, "authorization_response_iss_parameter_supported": true,
                    "client_id_metadata_document_supported": true, "response_types_supported": ["code"],
                    "grant_types_supported": ["authorization_code", "refresh_token"], "code_challenge_methods_supported": ["S256"],
                    "scopes_supported": ["atproto"], "dpop_signing_alg_values_supported": ["ES256", "ES256K"],
                    "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
                    "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
                ],
                resource: ["resource": .string(Self.pds), "authorization_servers": [.string(Self.issuer)]]))
    }

    var outbound: Outbound { Outbound { [self] request async throws(OutboundError) in answer(request) } }

    func change(_ body: (inout State) -> Void) { state.withLock { body(&$0) } }

    /// How often a path was asked for.
    func count(_ path: String) -> Int { state.withLock { $0.counts[path] ?? 0 } }

    /// What a person does at the page that the flow leads to.
    /// - Returns: the callback's parameters.
    func consent(at location: String, as account: String = alice) throws -> [(String, String)] {
        let fields = Self.fields(location.split(separator: "?").last.map(String.init) ?? "")
        return try state.withLock { state in
            guard let pushed = fields["request_uri"].flatMap({ state.pushed[$0] }), fields["client_id"] == pushed["client_id"] else {
                throw OutboundError.invalidURL
            }
            state.number += 1
            let code = "code-\(state.number)-\(UUID())"
            state.codes[code] = pushed.merging(["account": account]) { $1 }
            return [("iss", Self.issuer), ("state", pushed["state"] ?? ""), ("code", code)]
        }
    }

    private func answer(_ request: OutboundRequest) -> OutboundResponse {
        state.withLock { state in
            let path = String(request.url.prefix { $0 != "?" })
            state.counts[path, default: 0] += 1
            state.requests.append(request)
            if let answer = state.answers[path]?(state.counts[path] ?? 0) { return answer }
            if path.hasPrefix("https://plc.example.com/") { return Self.document(path, state) }
            if let handle = path.firstMatch(of: /https:\/\/(.*)\/.well-known\/atproto-did/)?.output.1 {
                return state.handles[String(handle)].map { Self.response(200, text: $0) } ?? Self.response(404, text: "")
            }
            switch path {
            case Self.pds + "/.well-known/oauth-protected-resource": return Self.response(200, .map(state.resource))
            case Self.issuer + "/.well-known/oauth-authorization-server": return Self.response(200, .map(state.metadata))
            case Self.issuer + "/par": return endpoint(request, &state, push)
            case Self.issuer + "/token": return endpoint(request, &state, tokens)
            case Self.issuer + "/revoke":
                return endpoint(request, &state) { form, _, state in
                    state.revoked.append(form["token"] ?? "")
                    return Self.response(200, [:])
                }
            case _ where path.hasPrefix(Self.pds + "/xrpc/"): return method(request, path, &state)
            default: return Self.response(404, text: "")
            }
        }
    }

    private static func document(_ path: String, _ state: State) -> OutboundResponse {
        let did = String(path.dropFirst("https://plc.example.com/".count))
        guard let pds = state.pdsOf[did] else { return response(404, text: "") }
        return response(
            200,
            [
                "id": .string(did), "alsoKnownAs": did == alice ? [.string("at://\(handle)")] : [],
                "service": [["id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": .string(pds)]],
            ])
    }

    // MARK: The authorization server

    private typealias Handler = ([String: String], _ thumbprint: String, inout State) -> OutboundResponse

    private func endpoint(_ request: OutboundRequest, _ state: inout State, _ handler: Handler) -> OutboundResponse {
        guard request.body?.contentType == "application/x-www-form-urlencoded",
            let thumbprint = proof(request, accessToken: nil)
        else { return Self.refusal("invalid_dpop_proof") }
        if let nonce = state.nonce, Self.claim("nonce", of: request.headers["DPoP"]) != .string(nonce) {
            return Self.refusal("use_dpop_nonce", nonce: nonce)
        }
        let form = Self.fields(String(decoding: request.body?.bytes ?? [], as: UTF8.self))
        guard isClient(form, key: thumbprint, state) else { return Self.refusal("invalid_client") }
        return handler(form, thumbprint, &state)
    }

    /// RFC 7523, where the client has keys.
    private func isClient(_ form: [String: String], key: String, _ state: State) -> Bool {
        guard let jwk = state.clientKeys.first else { return form["client_id"] != nil && form["client_assertion"] == nil }
        guard let key = try? PublicKey(jwk: jwk), let token = form["client_assertion"].flatMap({ try? JSONWebToken($0) }),
            form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        else { return false }
        return token.isSigned(by: key) && token.text("iss") == form["client_id"] && token.text("sub") == form["client_id"]
            && token.text("aud") == Self.issuer && token.keyID == "key-1" && token.text("jti") != nil
    }

    private func push(_ form: [String: String], _ thumbprint: String, _ state: inout State) -> OutboundResponse {
        guard form["response_type"] == "code", form["code_challenge_method"] == "S256", form["code_challenge"]?.count == 43,
            form["state"] != nil, form["scope"]?.contains("atproto") == true
        else { return Self.refusal("invalid_request") }
        state.number += 1
        let uri = "urn:ietf:params:oauth:request_uri:\(state.number)"
        state.pushed[uri] = form.merging(["thumbprint": thumbprint]) { $1 }
        return Self.response(201, ["request_uri": .string(uri), "expires_in": 300])
    }

    private func tokens(_ form: [String: String], _ thumbprint: String, _ state: inout State) -> OutboundResponse {
        let account: String
        switch form["grant_type"] {
        case "authorization_code":
            guard let pushed = form["code"].flatMap({ state.codes.removeValue(forKey: $0) }), pushed["thumbprint"] == thumbprint,
                pushed["redirect_uri"] == form["redirect_uri"], let verifier = form["code_verifier"],
                pushed["code_challenge"] == Base64URL.encode(CID(hashing: Array(verifier.utf8), codec: .raw).digest)
            else { return Self.refusal("invalid_grant") }
            account = pushed["account"] ?? ""
        case "refresh_token":
            guard let token = form["refresh_token"],
                let holder = state.refresh.first(where: { $0.value == token })?.key
                    ?? (state.forgivesRepeats && state.exchanged.contains(token) ? Self.alice : nil)
            else { return Self.refusal("invalid_grant") }
            account = holder
            state.exchanged.insert(token)
            state.access = state.access.filter { $0.value.account != account }
        default: return Self.refusal("unsupported_grant_type")
        }
        state.number += 1
        let (access, refresh) = ("access-\(state.number)-\(UUID())", "refresh-\(state.number)-\(UUID())")
        state.refresh[account] = refresh
        state.access[access] = (account, thumbprint)
        var answer: ValueMap = [
            "access_token": .string(access), "refresh_token": .string(refresh), "token_type": "DPoP", "expires_in": 900,
            "scope": "atproto repo:zone.stratos.actor.enrollment repo:zone.stratos.feed.post", "sub": .string(account),
        ]
        state.changesTokens(&answer)
        return Self.response(200, .map(answer))
    }

    // MARK: The PDS

    private func method(_ request: OutboundRequest, _ path: String, _ state: inout State) -> OutboundResponse {
        let token = String(request.headers["Authorization"]?.dropFirst("DPoP ".count) ?? "")
        if let nonce = state.nonce, Self.claim("nonce", of: request.headers["DPoP"]) != .string(nonce) {
            return Self.unauthorized("use_dpop_nonce", nonce: nonce)
        }
        guard let grant = state.access[token], proof(request, accessToken: token) == grant.thumbprint else {
            return Self.unauthorized("invalid_token")
        }
        let input = request.body.flatMap { try? DataModelJSON.decode($0.bytes) } ?? .null
        let name = "\(input["collection"]?.stringValue ?? "")/\(input["rkey"]?.stringValue ?? "")"
        switch path.split(separator: "/").last {
        case "com.atproto.repo.putRecord":
            let value = input["record"] ?? .null
            let cid = CID(hashing: DAGCBOR.encode(value))
            state.records[name] = (cid, value)
            return Self.response(200, ["uri": .string("at://\(grant.account)/\(name)"), "cid": .string(cid.description)])
        case "com.atproto.repo.deleteRecord":
            state.records[name] = nil
            return Self.response(200, [:])
        case "com.atproto.repo.listRecords":
            let records = state.records.map { name, record -> Value in
                ["uri": .string("at://\(grant.account)/\(name)"), "cid": .string(record.cid.description), "value": record.value]
            }
            return Self.response(200, ["records": .array(records)])
        default: return Self.response(501, ["error": "MethodNotImplemented"])
        }
    }

    /// The thumbprint of the key that made a proof for this request, now, with a jti; nil for none.
    private func proof(_ request: OutboundRequest, accessToken: String?) -> String? {
        guard let token = request.headers["DPoP"].flatMap({ try? JSONWebToken($0) }), token.type == "dpop+jwt",
            let jwk = token.header["jwk"],
            let key = try? JWK(
                kty: jwk["kty"]?.stringValue ?? "", crv: jwk["crv"]?.stringValue ?? "", x: jwk["x"]?.stringValue ?? "",
                y: jwk["y"]?.stringValue ?? ""), let publicKey = try? PublicKey(jwk: key), jwk["d"] == nil, token.isSigned(by: publicKey),
            token.text("htm") == request.method.rawValue, token.text("htu") == String(request.url.prefix { $0 != "?" }),
            token.text("jti") != nil, let issued = token.seconds("iat"), abs(issued - clock() / 1_000_000) < 5,
            token.text("ath") == accessToken.map({ Base64URL.encode(CID(hashing: Array($0.utf8), codec: .raw).digest) })
        else { return nil }
        return key.thumbprint
    }

    private static func claim(_ name: String, of proof: String?) -> Value? { proof.flatMap { try? JSONWebToken($0) }?.claims[name] }

    // MARK: Answers

    static func response(_ status: Int, _ value: Value, headers: OutboundResponse.Headers = .init()) -> OutboundResponse {
        OutboundResponse(status: status, contentType: "application/json", headers: headers, body: DataModelJSON.encode(value))
    }

    static func response(_ status: Int, text: String) -> OutboundResponse {
        OutboundResponse(status: status, contentType: "text/plain", body: Array(text.utf8))
    }

    static func refusal(_ error: String, nonce: String? = nil) -> OutboundResponse {
        response(400, ["error": .string(error)], headers: .init(nonce: nonce))
    }

    static func unauthorized(_ error: String, nonce: String? = nil) -> OutboundResponse {
        response(
            401, ["error": .string(error)], headers: .init(nonce: nonce, challenge: "DPoP algs=\"ES256\", error=\"\(error)\""))
    }

    static func fields(_ form: String) -> [String: String] {
        var fields: [String: String] = [:]
        for pair in form.split(separator: "&") {
            let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map { $0.removingPercentEncoding ?? "" }
            fields[sides[0]] = sides.count > 1 ? sides[1] : ""
        }
        return fields
    }
}
