import ATProto
import HTTPTypes
import Hummingbird

/// The server over HTTP.
func pdsRoutes(_ server: OAuthServer, faults: Faults, keep: @escaping Keep) -> Router<DevnetContext> {
    let pds = server.pds
    let router = Router(context: DevnetContext.self)
    router.add(middleware: DevnetMiddleware(faults: faults, keep: keep) { DevnetPart(pdsPath: $0) })
    addWellKnown(to: router, pds: pds, faults: faults)
    addAdministration(to: router, pds: pds, faults: faults)
    addOAuth(to: router, server: server)
    addOAuthAdministration(to: router, server: server)
    router.get("/xrpc/_health") { _, _ in Response.json(["version": "devnet"]) }
    let methods = pdsMethods(pds).merging(RecordWrites(pds: pds, server: server).methods) { $1 }
    for verb in [HTTPRequest.Method.get, .post] {
        router.on("/xrpc/:nsid", method: verb) { request, context in
            guard let method = context.parameters.get("nsid").flatMap({ methods[$0] }) else {
                throw XRPCRefusal(.notImplemented, "MethodNotImplemented", "Method Not Implemented")
            }
            guard method.verb == verb else {
                throw XRPCRefusal.invalidRequest("Incorrect HTTP method (\(verb)) expected \(method.verb)")
            }
            return try await method.handle(request)
        }
    }
    return router
}

private func addWellKnown(to router: Router<DevnetContext>, pds: PDS, faults: Faults) {
    router.get("/.well-known/oauth-protected-resource") { _, _ in
        Response.json(pds.protectedResource(issuer: faults[.protectedResource] == .wrongIssuer ? "https://issuer.invalid" : pds.url))
    }
    router.get("/.well-known/oauth-authorization-server") { _, _ in
        Response.json(pds.authorizationServer(issuer: faults[.authorizationServer] == .wrongIssuer ? "https://issuer.invalid" : pds.url))
    }
    router.get("/.well-known/atproto-did") { request, _ in
        let host = request.head.authority?.split(separator: ":").first.map(String.init) ?? ""
        guard let handle = try? Handle(host), let account = pds.account(handle) else {
            return Response.text("User not found", status: .notFound)
        }
        return Response.text(account.did.description)
    }
}

struct PDSMethod: Sendable {
    let verb: HTTPRequest.Method
    let handle: @Sendable (Request) async throws -> Response

    static func query(_ handle: @escaping @Sendable (Request) async throws -> Response) -> PDSMethod {
        PDSMethod(verb: .get, handle: handle)
    }

    static func procedure(_ handle: @escaping @Sendable (Request) async throws -> Response) -> PDSMethod {
        PDSMethod(verb: .post, handle: handle)
    }
}

private func pdsMethods(_ pds: PDS) -> [String: PDSMethod] {
    [
        "com.atproto.server.describeServer": .query { _ in
            Response.json([
                "did": .string(pds.serviceDID), "availableUserDomains": [.string(PDS.handleDomain)], "inviteCodeRequired": false,
                "links": [:], "contact": [:],
            ])
        },
        "com.atproto.server.createSession": .procedure { request in
            let input = try await request.jsonObject()
            guard let identifier = input["identifier"]?.stringValue, let password = input["password"]?.stringValue else {
                throw XRPCRefusal.invalidRequest("Input must have the properties \"identifier\" and \"password\"")
            }
            return Response.json(try pds.createSession(identifier: identifier, password: password))
        },
        "com.atproto.server.getServiceAuth": .query { request in
            let account = try pds.session(of: request)
            let token = try pds.getServiceAuth(
                for: account, audience: try request.required("aud"), method: try request.optional("lxm"),
                expiry: try request.integer("exp"))
            return Response.json(["token": .string(try token.text)])
        },
        "com.atproto.identity.resolveHandle": .query { request in
            guard let handle = try? Handle(try request.required("handle")) else {
                throw XRPCRefusal.invalidRequest("handle must be a valid handle")
            }
            guard let account = pds.account(handle) else { throw XRPCRefusal.invalidRequest("Unable to resolve handle") }
            return Response.json(["did": .string(account.did.description)])
        },
        "com.atproto.identity.resolveDid": .query { request in
            let did = try request.required("did")
            do {
                return Response.json(["didDoc": try pds.directory.document(of: did)])
            } catch PLCError.notAvailable {
                throw XRPCRefusal(.badRequest, "DidDeactivated", "DID has been deactivated")
            } catch is PLCError {
                throw XRPCRefusal(.badRequest, "DidNotFound", "DID not found")
            }
        },
        "com.atproto.repo.getRecord": .query { request in try getRecord(request, pds) },
        "com.atproto.repo.listRecords": .query { request in try listRecords(request, pds) },
    ]
}

private func getRecord(_ request: Request, _ pds: PDS) throws -> Response {
    let account = try repo(request, pds)
    let key: RecordKey
    do { key = try RecordKey(try request.required("rkey")) } catch is SyntaxError {
        throw XRPCRefusal.invalidRequest("rkey must be a valid record key")
    }
    let collection = try collection(request)
    let uri = "at://\(account.did)/\(collection)/\(key)"
    guard let record = pds.record(of: account.did, collection: collection, key: key),
        try request.optional("cid").map({ $0 == record.cid.description }) ?? true
    else { throw XRPCRefusal(.badRequest, "RecordNotFound", "Could not locate record: \(uri)") }
    return Response.json(["uri": .string(uri), "cid": .string(record.cid.description), "value": record.value])
}

/// Newest keys first, as the public PDS lists them; `reverse` turns that round.
private func listRecords(_ request: Request, _ pds: PDS) throws -> Response {
    let account = try repo(request, pds)
    let collection = try collection(request)
    let limit = Int(try request.integer("limit") ?? 50)
    guard (1...100).contains(limit) else { throw XRPCRefusal.invalidRequest("limit must be between 1 and 100") }
    let isReversed = try request.optional("reverse") == "true"
    let cursor = try request.optional("cursor")
    let sorted = pds.records(of: account.did, collection: collection)
    let ordered = isReversed ? sorted : sorted.reversed()
    let left = ordered.filter { item in
        guard let cursor else { return true }
        return isReversed ? item.key.description > cursor : item.key.description < cursor
    }
    let page = left.prefix(limit)
    var answer: ValueMap = [
        "records": .array(
            page.map { item in
                [
                    "uri": .string("at://\(account.did)/\(collection)/\(item.key)"), "cid": .string(item.record.cid.description),
                    "value": item.record.value,
                ]
            })
    ]
    if let last = page.last { answer["cursor"] = .string(last.key.description) }
    return Response.json(.map(answer))
}

private func repo(_ request: Request, _ pds: PDS) throws -> PDS.Account {
    let text = try request.required("repo")
    guard let account = (try? ATIdentifier(text)).flatMap({ pds.account($0) }) else {
        throw XRPCRefusal.invalidRequest("Could not find repo: \(text)")
    }
    return account
}

private func collection(_ request: Request) throws -> NSID {
    do { return try NSID(try request.required("collection")) } catch is SyntaxError {
        throw XRPCRefusal.invalidRequest("collection must be a valid nsid")
    }
}

extension Request {
    /// A parameter of the query that may be missing; given twice it is refused.
    func optional(_ name: String) throws(XRPCRefusal) -> String? {
        let values = uri.queryParameters[values: Substring(name)]
        guard values.count <= 1 else { throw .invalidRequest("\(name) must be given once") }
        return values.first.map(String.init)
    }

    func required(_ name: String) throws(XRPCRefusal) -> String {
        guard let value = try optional(name) else { throw .invalidRequest("Params must have the property \"\(name)\"") }
        return value
    }

    func integer(_ name: String) throws(XRPCRefusal) -> Int64? {
        guard let text = try optional(name) else { return nil }
        guard let integer = Int64(text) else { throw .invalidRequest("\(name) must be an integer") }
        return integer
    }
}
