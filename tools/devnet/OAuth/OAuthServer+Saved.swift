import ATProto

/// The sessions as a file keeps them.
extension OAuthServer {
    var saved: Value { ["sessions": .array(state.withLock { $0.sessions }.map { id, session in session.saved(id) })] }

    /// - Parameter value: nil in files of before there were sessions.
    convenience init(pds: PDS, configuration: DevnetConfiguration, saved value: Value?) throws(DevnetError) {
        var sessions: [String: Session] = [:]
        if let value {
            for value in try SavedFields(value).array("sessions") {
                sessions[try SavedFields(value).string("id")] = try Session(value)
            }
        }
        try self.init(pds: pds, configuration: configuration, sessions: sessions)
    }
}

extension OAuthServer.Session {
    fileprivate func saved(_ id: String) -> Value {
        var map: ValueMap = [
            "id": .string(id), "account": .string(account.description), "clientID": .string(clientID), "scope": .string(scope),
            "thumbprint": .string(thumbprint), "code": .string(code), "created": .integer(created), "refreshed": .integer(refreshed),
            "refreshToken": .string(refreshToken), "spent": .array(spent.map(Value.string)),
            "tokens": .array(tokens.map { ["id": .string($0.key), "expires": .integer($0.value)] }),
        ]
        if case .key(let id, let thumbprint) = credential {
            map["credential"] = ["id": .string(id), "thumbprint": .string(thumbprint)]
        }
        return .map(map)
    }

    fileprivate init(_ value: Value) throws(DevnetError) {
        let fields = try SavedFields(value)
        do { account = try DID(try fields.string("account")) } catch { throw .unreadable("account: \(error)") }
        clientID = try fields.string("clientID")
        scope = try fields.string("scope")
        thumbprint = try fields.string("thumbprint")
        code = try fields.string("code")
        created = try fields.integer("created")
        refreshed = try fields.integer("refreshed")
        refreshToken = try fields.string("refreshToken")
        if let credential = value["credential"] {
            let fields = try SavedFields(credential)
            self.credential = .key(id: try fields.string("id"), thumbprint: try fields.string("thumbprint"))
        } else {
            credential = .none
        }
        for token in try fields.array("spent") {
            guard let token = token.stringValue else { throw .unreadable("spent") }
            spent.insert(token)
        }
        for token in try fields.array("tokens") {
            let fields = try SavedFields(token)
            tokens[try fields.string("id")] = try fields.integer("expires")
        }
    }
}
