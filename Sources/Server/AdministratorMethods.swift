import ATProto
import Authorization
import Commands
import Engine
import EventLog
import HTTPTypes
import Hummingbird

/// `zone.stratos.admin.*`: what administrators do over the network (wire contract, section 1.5). They grant memberships, so they see
/// them here. None of it shows a record, but for `getRecord`, which leaves a receipt with the record's owner.
func administratorMethods(_ engine: Engine) throws -> [XRPCMethod] {
    [
        XRPCMethod(id: try NSID("zone.stratos.admin.enroll"), kind: .procedure, access: .administrator) { call in
            let did = try did(call)
            let boundaries = (call.input["boundaries"]?.arrayValue ?? []).compactMap(\.stringValue)
            let enrollment = try await engine.enroll(
                did, boundaries: boundaries, pds: call.input["pds"]?.stringValue, by: try call.agent())
            return .json(.map(status(enrollment, enrollment.membership)))
        },
        XRPCMethod(id: try NSID("zone.stratos.admin.unenroll"), kind: .procedure, access: .administrator) { call in
            let did = try did(call)
            let content: AccountLeave.Content = call.input["keepContent"]?.boolValue ?? false ? .kept : .erase
            do {
                try await engine.leave(did, content: content, reason: call.input["reason"]?.stringValue ?? "", by: try call.agent())
            } catch Refusal.notEnrolled {
                throw XRPCError(.notFound, "NotFound", "user \(did) is not enrolled")
            }
            return .json(["did": .string(did.description), "unenrolled": true, "content": .string(content.rawValue)])
        },
        try boundaryMethod("addBoundary", engine) { .add([$0["boundary"]?.stringValue ?? ""]) },
        try boundaryMethod("removeBoundary", engine) { .remove([$0["boundary"]?.stringValue ?? ""]) },
        try boundaryMethod("setBoundaries", engine) { .set(($0["boundaries"]?.arrayValue ?? []).compactMap(\.stringValue)) },
        XRPCMethod(id: try NSID("zone.stratos.admin.listEnrollments"), kind: .query, access: .administrator) { call in
            let after: DID? = try call.parameters["cursor"]?.stringValue.map { text in
                guard let did = try? DID(text) else { throw XRPCError.invalidRequest("the cursor is not one that this service gave") }
                return did
            }
            let (page, cursor) = try await engine.enrollments(after: after, limit: Int(call.parameters["limit"]?.integerValue ?? 100))
            var answer: ValueMap = [
                "enrollments": .array(page.map { .map(status($0, $0.membership)) })
            ]
            if let cursor { answer["cursor"] = .string(cursor.description) }
            return .json(.map(answer))
        },
        // A procedure, since it appends: the receipt.
        XRPCMethod(id: try NSID("zone.stratos.admin.getRecord"), kind: .procedure, access: .administrator) { call in
            guard let (owner, path) = (try? ATURI(call.input["uri"]?.stringValue ?? ""))?.place else {
                throw XRPCError.invalidRequest("uri must name a DID, a collection and a record key")
            }
            let record = try await engine.readAsAdministrator(
                path, of: owner, reason: call.input["reason"]?.stringValue ?? "", by: try call.agent())
            guard let record else { throw XRPCError.recordNotFound }
            return .json(record.content.response)
        },
    ]
}

private func boundaryMethod(
    _ name: String, _ engine: Engine, change: @escaping @Sendable (Value) -> BoundaryChange
) throws -> XRPCMethod {
    XRPCMethod(id: try NSID("zone.stratos.admin.\(name)"), kind: .procedure, access: .administrator) { call in
        let did = try did(call)
        do {
            let enrollment = try await engine.changeBoundaries(of: did, change(call.input), by: try call.agent())
            return .json([
                "did": .string(did.description), "boundaries": .array(enrollment.membership.boundaries.map(Value.string)),
            ])
        } catch Refusal.notEnrolled {
            throw XRPCError(.notFound, "NotFound", "user \(did) is not enrolled")
        }
    }
}

private func did(_ call: XRPCCall) throws(XRPCError) -> DID {
    do { return try DID(call.input["did"]?.stringValue ?? "") } catch { throw .invalidRequest("did must be a DID") }
}
