import ATProto
import Authorization
import Engine
import Hummingbird

/// What apps ask on behalf of readers: the records behind placeholders, who is a member of what, and what administrators looked at
/// (wire contract, section 1.5).
func sharingMethods(_ engine: Engine, _ configuration: ServerConfiguration) throws -> [XRPCMethod] {
    let tellsBlocked = configuration.hydrateTellsBlocked
    return [
        XRPCMethod(id: try NSID("zone.stratos.repo.hydrateRecord"), kind: .query, access: .open) { call in
            let uri = try uri(call.parameters["uri"])
            let hydration = try await engine.hydrate([uri], to: call.caller, tellsBlocked: tellsBlocked)
            if !hydration.blocked.isEmpty {
                throw XRPCError(.badRequest, "RecordBlocked", "Record blocked due to boundary restrictions")
            }
            guard let record = hydration.records.first?.content else { throw XRPCError.recordNotFound }
            if let version = call.parameters["cid"]?.stringValue, record.cid.description != version { throw XRPCError.recordNotFound }
            return .json(record.response)
        },
        // Changes nothing: a procedure only because its input is large.
        XRPCMethod(id: try NSID("zone.stratos.repo.hydrateRecords"), kind: .procedure, access: .open) { call in
            let uris = try (call.input["uris"]?.arrayValue ?? []).map(uri)
            let hydration = try await engine.hydrate(uris, to: call.caller, tellsBlocked: tellsBlocked)
            return .json([
                "records": .array(hydration.records.map(\.content.response)), "notFound": .array(hydration.notFound.map(text)),
                "blocked": .array(hydration.blocked.map(text)),
            ])
        },
        XRPCMethod(id: try NSID("zone.stratos.identity.resolveEnrollments"), kind: .query, access: .open) { call in
            guard let did = call.did("did") else { throw XRPCError.invalidRequest("did parameter required") }
            let boundaries = try await engine.boundaries(of: did, to: call.caller, arePublic: configuration.enrollmentsArePublic)
            return .json([
                "did": .string(did.description), "enrolled": .bool(boundaries != nil),
                "boundaries": .array(boundaries?.content.map(Value.string) ?? []),
            ])
        },
        XRPCMethod(id: try NSID("zone.stratos.server.listDomains"), kind: .query, access: .open) { _ in
            .json(["domains": .array(try engine.domains().map(Value.string))])
        },
        XRPCMethod(id: try NSID("zone.stratos.audit.listReads"), kind: .query, access: .user) { call in
            let user = try call.user()
            let before = try call.parameters["cursor"]?.stringValue.map(sequence)
            let page = try await engine.adminReads(
                of: user, before: before, limit: Int(call.parameters["limit"]?.integerValue ?? 50), to: call.caller)
            var answer: ValueMap = ["reads": .array(page?.content.reads.map(\.value) ?? [])]
            if let cursor = page?.content.cursor { answer["cursor"] = .string(String(cursor)) }
            return .json(.map(answer))
        },
    ]
}

private func text(_ uri: ATURI) -> Value { .string(uri.description) }

private func uri(_ value: Value?) throws(XRPCError) -> ATURI {
    do { return try ATURI(value?.stringValue ?? "") } catch { throw .invalidRequest("Invalid AT-URI") }
}

private func sequence(_ cursor: String) throws(XRPCError) -> UInt64 {
    guard let sequence = UInt64(cursor), sequence < 1 << 53 else { throw .invalidRequest("the cursor is not one that this service gave") }
    return sequence
}
