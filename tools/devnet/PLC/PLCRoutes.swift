import ATProto
import Hummingbird

/// The directory over HTTP, as `https://plc.directory` has it; without its export of everything.
func plcRoutes(_ directory: PLCDirectory, faults: Faults, keep: @escaping Keep) -> Router<DevnetContext> {
    let router = Router(context: DevnetContext.self)
    router.add(middleware: DevnetMiddleware(faults: faults, keep: keep) { $0 == "/_health" ? nil : .plc })
    router.get("/_health") { _, _ in Response.json(["version": "devnet"]) }
    router.get("/:did") { _, context in
        Response.json(try directory.document(of: try context.did()), contentType: "application/did+ld+json; charset=utf-8")
    }
    router.get("/:did/data") { _, context in
        let did = try context.did()
        var fields = try directory.content(of: did).fields
        fields["did"] = .string(did)
        return Response.json(.map(fields))
    }
    router.get("/:did/log") { _, context in
        Response.json(.array(try directory.registered(try context.did()).filter { !$0.isNullified }.map(\.operation.value)))
    }
    router.get("/:did/log/last") { _, context in
        Response.json(try directory.registered(try context.did()).last { !$0.isNullified }?.operation.value ?? .null)
    }
    router.get("/:did/log/audit") { _, context in
        let did = try context.did()
        return Response.json(.array(try directory.registered(did).map { $0.audited(of: did) }))
    }
    router.post("/:did") { request, context in
        try directory.submit(.map(try await request.jsonObject()), for: try context.did())
        return Response.text("OK")
    }
    return router
}

extension RequestContext {
    fileprivate func did() throws(PLCError) -> String {
        // Clients that are careful send the colons as %3A, and the router leaves them so.
        guard let text = parameters.get("did") else { throw .notRegistered("") }
        return text.replacing("%3A", with: ":").replacing("%3a", with: ":")
    }
}

extension PLCDirectory {
    fileprivate func registered(_ did: String) throws(PLCError) -> [Entry] {
        let log = log(of: did)
        guard !log.isEmpty else { throw .notRegistered(did) }
        return log
    }
}

extension PLCDirectory.Entry {
    fileprivate func audited(of did: String) -> Value {
        guard let time = Datetime(milliseconds: createdAt) else { preconditionFailure("the clock is between the years 0 and 9999") }
        return [
            "did": .string(did), "operation": operation.value, "cid": .string(cid.description), "nullified": .bool(isNullified),
            "createdAt": .string(time.description),
        ]
    }
}
