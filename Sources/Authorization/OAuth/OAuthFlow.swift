internal import ATProto
internal import Crypto
internal import Keys

/// A flow between its beginning and its callback: all that must be known when the browser comes back. It lies sealed, under the hash of
/// its state: who reads the table learns neither the state nor the keys.
struct OAuthFlow: Sendable {
    /// From the beginning to the callback.
    static let lifetime: Int64 = 600

    let account: AccountServer
    /// What the person typed, where it was a handle.
    let handle: Handle?
    let verifier: String
    let key: PrivateKey
    /// SHA-256 of the secret in the browser's cookie.
    let cookieHash: [UInt8]
    /// Where the browser is to go in the end.
    let returnTo: String?
    /// Seconds since 1970.
    let expires: Int64

    /// What a flow is kept under.
    static func identifier(ofState state: String) -> [UInt8] { Array(SHA256.hash(data: Array(state.utf8))) }

    /// Another for each flow, so that two that are open in one browser do not disturb each other.
    static func cookieName(ofState state: String, isHostBound: Bool) -> String {
        (isHostBound ? "__Host-" : "") + "stratos-flow-" + Base64URL.encode(Array(identifier(ofState: state).prefix(6)))
    }

    /// RFC 7636, section 4.2.
    var challenge: String { Base64URL.encode(Array(SHA256.hash(data: Array(verifier.utf8)))) }

    private static let purpose = "flow"

    func sealed(by seal: Seal, as identifier: [UInt8]) -> [UInt8] {
        var kept: ValueMap = [
            "did": .string(account.did.description), "pds": .string(account.pds), "server": account.server.kept,
            "verifier": .string(verifier), "key": .string(key.kept), "cookie": .string(Base64URL.encode(cookieHash)),
            "expires": .integer(expires),
        ]
        if let handle { kept["handle"] = .string(handle.description) }
        if let returnTo { kept["return"] = .string(returnTo) }
        return seal.seal(DataModelJSON.encode(.map(kept)), purpose: Self.purpose, owner: Base64URL.encode(identifier))
    }

    init?(_ sealed: [UInt8], by seal: Seal, as identifier: [UInt8]) {
        guard let bytes = seal.open(sealed, purpose: Self.purpose, owner: Base64URL.encode(identifier)),
            let kept = try? DataModelJSON.decodePlain(bytes), let did = kept["did"]?.stringValue.flatMap({ try? DID($0) }),
            let pds = kept["pds"]?.stringValue, let server = OAuthServer(kept["server"]),
            let verifier = kept["verifier"]?.stringValue, let key = PrivateKey.kept(kept["key"]?.stringValue),
            let cookie = kept["cookie"]?.stringValue.flatMap({ try? Base64URL.decode($0) }), let expires = kept["expires"]?.integerValue
        else { return nil }
        account = AccountServer(did: did, pds: pds, server: server)
        handle = kept["handle"]?.stringValue.flatMap { try? Handle($0) }
        self.verifier = verifier
        self.key = key
        cookieHash = cookie
        returnTo = kept["return"]?.stringValue
        self.expires = expires
    }

    init(account: AccountServer, handle: Handle?, returnTo: String?, cookie: String, now: Int64, random: (Int) -> [UInt8]) {
        self.account = account
        self.handle = handle
        verifier = Base64URL.encode(random(32))
        key = PrivateKey.generate(.p256)
        cookieHash = Array(SHA256.hash(data: Array(cookie.utf8)))
        self.returnTo = returnTo
        expires = now + Self.lifetime
    }

    /// Compares hashes, so that how long it takes tells nothing of the secret.
    func isBegun(byBrowserWith cookie: String?) -> Bool {
        guard let cookie else { return false }
        return equal(Base64URL.encode(Array(SHA256.hash(data: Array(cookie.utf8)))), Base64URL.encode(cookieHash))
    }
}

extension PrivateKey {
    /// The scalar as text, for what is sealed.
    var kept: String { withRawBytes { Base64URL.encode(Array($0)) } }

    static func kept(_ text: String?) -> PrivateKey? {
        guard let text, let bytes = try? Base64URL.decode(text) else { return nil }
        return try? PrivateKey(curve: .p256, rawBytes: bytes)
    }
}
