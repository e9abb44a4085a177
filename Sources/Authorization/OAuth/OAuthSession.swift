internal import ATProto
internal import Keys

/// What an account gave at the end of a flow, to keep records on its server in its name.
struct OAuthSession: Sendable {
    let account: AccountServer
    let key: PrivateKey
    let accessToken: String
    let refreshToken: String
    /// Of the access token; seconds since 1970. Nil where its server did not say.
    let expires: Int64?
    /// Since when a refresh is under way whose outcome is not known: the server may have exchanged the refresh token already.
    var refreshingSince: Int64?
    /// When the account gave it, in microseconds since 1970; refreshing does not change it.
    var given: Int64 = 0

    init(account: AccountServer, key: PrivateKey, tokens: TokenAnswer) {
        self.account = account
        self.key = key
        accessToken = tokens.accessToken
        refreshToken = tokens.refreshToken
        expires = tokens.expires
    }

    private static let purpose = "session"

    func sealed(by seal: Seal) -> [UInt8] {
        var kept: ValueMap = [
            "pds": .string(account.pds), "server": account.server.kept, "key": .string(key.kept), "access": .string(accessToken),
            "refresh": .string(refreshToken),
        ]
        if let expires { kept["expires"] = .integer(expires) }
        if let refreshingSince { kept["refreshing"] = .integer(refreshingSince) }
        kept["given"] = .integer(given)
        return seal.seal(DataModelJSON.encode(.map(kept)), purpose: Self.purpose, owner: account.did.description)
    }

    /// - Parameter did: whose row it was in: that of another account does not open.
    init?(_ sealed: [UInt8], of did: DID, by seal: Seal) {
        guard let bytes = seal.open(sealed, purpose: Self.purpose, owner: did.description),
            let kept = try? DataModelJSON.decodePlain(bytes), let pds = kept["pds"]?.stringValue,
            let server = OAuthServer(kept["server"]), let key = PrivateKey.kept(kept["key"]?.stringValue),
            let access = kept["access"]?.stringValue, let refresh = kept["refresh"]?.stringValue
        else { return nil }
        account = AccountServer(did: did, pds: pds, server: server)
        self.key = key
        accessToken = access
        refreshToken = refresh
        expires = kept["expires"]?.integerValue
        refreshingSince = kept["refreshing"]?.integerValue
        given = kept["given"]?.integerValue ?? 0
    }
}
