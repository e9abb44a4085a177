import ATProto
import Hummingbird

/// What tests in any language do to sessions, and count at the PDS.
func addOAuthAdministration(to router: Router<DevnetContext>, server: OAuthServer) {
    router.post("/devnet/consent") { request, _ in
        let input = try await request.jsonObject()
        guard let url = input["url"]?.stringValue else { throw XRPCRefusal.invalidRequest("url is missing") }
        guard let decision = OAuthServer.Decision(rawValue: input["decision"]?.stringValue ?? "accept") else {
            throw XRPCRefusal.invalidRequest("decision must be accept or deny")
        }
        let account = try server.account(input)
        do {
            return Response.json(["location": .string(try server.consent(at: url, as: account, decision))])
        } catch let error as DevnetConsentError {
            throw XRPCRefusal.invalidRequest("\(error)")
        }
    }
    router.post("/devnet/sessions/end") { request, _ in
        let input = try await request.jsonObject()
        server.endSessions(of: input.isEmpty ? nil : try server.account(input).did)
        return Response.json([:])
    }
    router.get("/devnet/sessions") { _, _ in
        let sessions = server.sessions.map { session -> Value in
            [
                "did": .string(session.account.description), "client_id": .string(session.clientID), "scope": .string(session.scope),
            ]
        }
        return Response.json(["sessions": .array(sessions)])
    }
    router.post("/devnet/rotate-nonces") { _, _ in
        try server.rotateNonces()
        return Response.json([:])
    }
    router.get("/devnet/writes") { _, _ in Response.json(["writes": .array(server.pds.journal.map(\.summary))]) }
}

extension OAuthServer {
    /// The account that `account` names, by DID or handle.
    fileprivate func account(_ input: ValueMap) throws(XRPCRefusal) -> PDS.Account {
        guard let identifier = input["account"]?.stringValue.flatMap({ try? ATIdentifier($0) }), let account = pds.account(identifier)
        else {
            throw .invalidRequest("account must be the did or handle of an account")
        }
        return account
    }
}

extension DevnetWrite {
    fileprivate var summary: Value {
        [
            "sequence": .integer(Int64(sequence)), "did": .string(did.description), "action": .string(action.rawValue), "uri": .string(uri),
            "cid": cid.map { .string($0.description) } ?? .null, "isChange": .bool(isChange),
        ]
    }
}
