internal import ATProto
internal import Crypto
internal import Keys
internal import Synchronization

/// Signed tokens that this service makes (RFC 7515, compact).
enum SignedToken {
    static func text(header: ValueMap, claims: ValueMap, key: PrivateKey) -> String {
        let input = [header, claims].map { Base64URL.encode(DataModelJSON.encode(.map($0))) }.joined(separator: ".")
        do throws(KeysError) { return input + "." + Base64URL.encode(try key.sign(Array(input.utf8))) } catch {
            preconditionFailure("a key signs anything: \(error)")
        }
    }
}

/// Makes proofs of possession (RFC 9449) for requests to other servers, each with the nonce that its server gave last.
struct DPoPMaker: Sendable {
    let now: @Sendable () -> Int64
    let random: @Sendable (Int) -> [UInt8]
    let nonces = ServerNonces()

    /// - Parameters:
    ///   - url: with or without a query, which a proof leaves out.
    ///   - accessToken: what goes beside it; nil at a server's own endpoints.
    func proof(method: OutboundRequest.Method, url: String, accessToken: String? = nil, key: PrivateKey) -> String {
        var claims: ValueMap = [
            "jti": .string(Base64URL.encode(random(16))), "htm": .string(method.rawValue),
            "htu": .string(String(url.prefix { $0 != "?" && $0 != "#" })), "iat": .integer(now() / 1_000_000),
        ]
        if let nonce = nonces[url] { claims["nonce"] = .string(nonce) }
        if let accessToken { claims["ath"] = .string(Base64URL.encode(Array(SHA256.hash(data: Array(accessToken.utf8))))) }
        let header: ValueMap = [
            "typ": "dpop+jwt", "alg": .string(key.curve.algorithm), "jwk": .map(Self.members(of: key.publicKey)),
        ]
        return SignedToken.text(header: header, claims: claims, key: key)
    }

    static func members(of key: PublicKey) -> ValueMap {
        let jwk = key.jwk
        return ["kty": .string(jwk.kty), "crv": .string(jwk.crv), "x": .string(jwk.x), "y": .string(jwk.y)]
    }
}

/// The last nonce of each server that was asked; few are forgotten too early, and that costs one more request.
final class ServerNonces: Sendable {
    private let nonces = Mutex(BoundedMap<WebOrigin, String>(entriesMax: 4096, bytesMax: 1 << 20))

    subscript(url: String) -> String? { WebOrigin(ofURL: url).flatMap { origin in nonces.withLock { $0[origin] } } }

    func note(_ nonce: String?, from url: String) {
        guard let nonce, 1...512 ~= nonce.utf8.count, let origin = WebOrigin(ofURL: url) else { return }
        nonces.withLock { $0.set(origin, nonce, bytes: nonce.utf8.count + origin.host.utf8.count) }
    }
}
