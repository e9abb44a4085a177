import ATProto
import HTTPTypes
import Hummingbird
import Keys

/// What no public PDS has: `/devnet/…` makes accounts, records, tokens and faults for tests in any language. It asks for no
/// credential, so the devnet listens on loopback only.
func addAdministration(to router: Router<DevnetContext>, pds: PDS, faults: Faults) {
    router.post("/devnet/account") { request, _ in
        let input = try await request.jsonObject()
        let curve: Curve = input["curve"]?.stringValue == "p256" ? .p256 : .k256
        let password = try input["password"]?.stringValue ?? PDS.randomHex(8)
        guard let handle = try? Handle(input["handle"]?.stringValue ?? "") else {
            throw XRPCRefusal.invalidRequest("handle must be a valid handle")
        }
        let account = try pds.createAccount(handle: handle, password: password, repoKey: PrivateKey.generate(curve))
        return Response.json(pds.summary(of: account))
    }
    router.get("/devnet/accounts") { _, _ in Response.json(["accounts": .array(pds.accounts.map(pds.summary))]) }
    router.post("/devnet/token") { request, _ in try pds.issueToken(try await request.jsonObject()) }
    router.post("/devnet/record") { request, _ in try pds.setRecord(try await request.jsonObject()) }
    router.post("/devnet/rotate-keys") { request, _ in
        let input = try await request.jsonObject()
        pds.rotateTokenKeys(keepingOld: input["keepOld"]?.boolValue ?? true)
        return Response.json(pds.jwks)
    }
    router.post("/devnet/fault") { request, _ in
        let input = try await request.jsonObject()
        let (parts, fault) = try DevnetFault.parse(input)
        for part in parts { faults.set(fault, on: part, count: input["count"]?.integerValue.map(Int.init)) }
        return Response.json([:])
    }
    router.get("/devnet/requests") { _, _ in
        let counts = DevnetPart.allCases.map { ($0.rawValue, Value.integer(Int64(faults.requests(to: $0)))) }
        return Response.json(.map(counts.reduce(into: [:]) { $0[$1.0] = $1.1 }))
    }
    router.post("/devnet/faults/clear") { _, _ in
        faults.clear()
        return Response.json([:])
    }
}

extension PDS {
    func summary(of account: Account) -> Value {
        [
            "did": .string(account.did.description), "handle": .string(account.handle.description), "password": .string(account.password),
            "pds": .string(url), "repoKey": .string(account.repoKey.publicKey.didKey),
        ]
    }

    /// `{did, jkt, scope?, client_id?, lifetime?, header?, claims?}`: the members of `header` and `claims` replace those of the
    /// token; null takes one away.
    fileprivate func issueToken(_ input: ValueMap) throws -> Response {
        guard let did = try? DID(input["did"]?.stringValue ?? ""), account(did) != nil else {
            throw XRPCRefusal.invalidRequest("did must be an account's")
        }
        guard let jkt = input["jkt"]?.stringValue else { throw XRPCRefusal.invalidRequest("jkt is missing") }
        var terms = DevnetTokenTerms(jkt: jkt)
        if let scope = input["scope"]?.stringValue { terms.scope = scope }
        if let client = input["client_id"]?.stringValue { terms.clientID = client }
        if let lifetime = input["lifetime"]?.integerValue { terms.lifetime = lifetime }
        var token = try accessToken(for: did, terms)
        for (name, value) in input["header"]?.mapValue ?? [:] { token.header[name] = value.isNull ? nil : value }
        for (name, value) in input["claims"]?.mapValue ?? [:] { token.claims[name] = value.isNull ? nil : value }
        return Response.json([
            "access_token": .string(try token.text), "token_type": "DPoP", "scope": .string(terms.scope), "sub": .string(did.description),
            "expires_in": .integer(terms.lifetime),
        ])
    }

    /// `{did, collection, rkey, record}`.
    fileprivate func setRecord(_ input: ValueMap) throws -> Response {
        do {
            let did = try DID(input["did"]?.stringValue ?? "")
            let collection = try NSID(input["collection"]?.stringValue ?? "")
            let key = try RecordKey(input["rkey"]?.stringValue ?? "")
            guard let record = input["record"] else { throw XRPCRefusal.invalidRequest("record is missing") }
            // The body was read as plain JSON; a record's links and bytes are values of their own.
            let value = try DataModelJSON.decode(DataModelJSON.encode(record))
            let cid = try setRecord(value, of: did, collection: collection, key: key)
            return Response.json(["uri": .string("at://\(did)/\(collection)/\(key)"), "cid": .string(cid.description)])
        } catch let error as SyntaxError {
            throw XRPCRefusal.invalidRequest("\(error)")
        } catch let error as DataModelJSONError {
            throw XRPCRefusal.invalidRequest("\(error)")
        }
    }
}

extension DevnetFault {
    /// `{part, name, milliseconds?, status?, count?}`, where the name is that of the case, and the part that of a part or `pds` for all
    /// but the directory; no name ends the part's fault.
    fileprivate static func parse(_ input: ValueMap) throws(XRPCRefusal) -> ([DevnetPart], DevnetFault?) {
        let name = input["part"]?.stringValue ?? ""
        guard let parts = name == "pds" ? DevnetPart.pds : DevnetPart(rawValue: name).map({ [$0] }) else {
            throw .invalidRequest("part must be pds or one of \(DevnetPart.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        switch input["name"]?.stringValue {
        case nil: return (parts, nil)
        case "down": return (parts, .down)
        case "afterwards": return (parts, .afterwards)
        case "slow": return (parts, .slow(.milliseconds(input["milliseconds"]?.integerValue ?? 5000)))
        case "error": return (parts, .error(Int(input["status"]?.integerValue ?? 500)))
        case "wrongContentType": return (parts, .wrongContentType)
        case "wrongIssuer": return (parts, .wrongIssuer)
        default: throw .invalidRequest("name must be down, afterwards, slow, error, wrongContentType or wrongIssuer")
        }
    }
}
