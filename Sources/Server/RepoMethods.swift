import ATProto
import Authorization
import Commands
import Engine
import EventLog
import HTTPTypes
import Hummingbird
import NIOCore

/// Whole repos, proofs and enrollments (wire contract, sections 1.4 and 1.5).
func repoMethods(_ engine: Engine, _ configuration: ServerConfiguration) throws -> [XRPCMethod] {
    let (imports, exports) = (configuration.imports, configuration.exports)
    let membersGetProofs = configuration.membersGetProofs
    return [
        // The one name is the lexicon's own, the other that of every tool that reads repos.
        XRPCMethod(id: try NSID("zone.stratos.sync.getRepo"), kind: .query, access: .open) { try await export(engine, $0, in: exports) },
        XRPCMethod(id: try NSID("com.atproto.sync.getRepo"), kind: .query, access: .open) { try await export(engine, $0, in: exports) },
        XRPCMethod(id: try NSID("com.atproto.sync.getRecord"), kind: .query, access: .open) { call in
            guard let owner = call.did("did"),
                let proof = try await engine.proof(of: try call.path(), of: owner, to: call.caller, showsNeighbours: membersGetProofs)
            else { throw XRPCError.recordNotFound }
            return .car(proof.content)
        },
        XRPCMethod(id: try NSID("com.atproto.sync.getLatestCommit"), kind: .query, access: .open) { call in
            guard let owner = call.did("did"), let latest = try await engine.latestCommit(of: owner, to: call.caller) else {
                throw XRPCError.repoNotFound
            }
            return .json(["cid": .string(latest.content.commit.description), "rev": .string(latest.content.rev.description)])
        },
        XRPCMethod(id: try NSID("zone.stratos.repo.importRepo"), kind: .upload, access: .user) { call in
            let user = try call.user()
            let receipt = try await imports.staged(call.request, into: user, of: engine) { source in
                // An import works for seconds: between its steps the thread is lent to whoever waits.
                try await engine.importRepo(
                    source, into: user, options: ImportOptions(), by: try call.agent(), use: call.proven?.use,
                    progress: { _, _ in await Task.yield() })
            }
            return .json(["imported": .integer(Int64(receipt.imported))])
        },
        XRPCMethod(
            id: try NSID("zone.stratos.enrollment.unenroll"), kind: .procedure, access: .user, bodyIsOptional: true
        ) { call in
            try await engine.leave(
                try call.user(), content: .erase, reason: "asked for by the account itself", by: try call.agent(), use: call.proven?.use)
            return .json(["success": true])
        },
        XRPCMethod(id: try NSID("zone.stratos.enrollment.status"), kind: .query, access: .open) { call in
            guard let did = call.did("did") else { throw XRPCError.invalidRequest("did parameter required") }
            guard let enrollment = try await engine.enrollment(of: did) else {
                return .json(["did": .string(did.description), "enrolled": false, "active": false])
            }
            return .json(.map(status(enrollment, engine.membership(of: enrollment, to: call.caller)?.content)))
        },
    ]
}

private func export(_ engine: Engine, _ call: XRPCCall, in room: ExportRoom) async throws -> Response {
    let since = call.parameters["since"]?.stringValue.flatMap { try? TID($0) }  // The lexicon has checked its form.
    guard let owner = call.did("did"), let export = try await engine.exportRepo(of: owner, since: since, to: call.caller) else {
        throw XRPCError.repoNotFound
    }
    guard let place = room.place(bytes: export.content.treeBytes) else { throw XRPCError.exportsBusy }
    return .car(export, from: engine, in: place)
}

/// - Parameter membership: what stands beside the open part, for those who may know it.
func status(_ enrollment: EnrollmentSummary, _ membership: Membership?) -> ValueMap {
    var status: ValueMap = [
        "did": .string(enrollment.did.description), "enrolled": true, "active": true,
        "enrolledAt": .string(enrollment.membership.enrolledAt.description), "signingKey": .string(enrollment.signingKey.didKey),
    ]
    if let recordKey = enrollment.membership.recordKey { status["enrollmentRkey"] = .string(recordKey.description) }
    if let membership {
        status["boundaries"] = .array(membership.boundaries.map { ["value": .string($0)] })
        status["attestation"] = [
            "sig": .bytes(membership.attestation.signature), "signingKey": .string(membership.attestation.signingKey.didKey),
        ]
    }
    return status
}

extension Response {
    /// A repo as a CAR, streamed.
    fileprivate static func car(_ export: Readable<RepoExport>, from engine: Engine, in place: ExportRoom.Place) -> Response {
        Response(
            status: .ok, headers: [.contentType: "application/vnd.ipld.car", .repoRev: export.content.rev.description],
            body: ResponseBody { writer in
                // The status has gone out: an error in here can only cut the answer off, which its reader sees.
                var isGone = false
                do {
                    try await export.content.stream(from: engine) { piece in
                        do { try await writer.write(ByteBuffer(bytes: piece)) } catch {
                            isGone = true
                            throw error
                        }
                    }
                } catch Refusal.notEnrolled {
                    engine.logger.info("an export was cut off, since its owner has left")
                    throw Refusal.notEnrolled
                } catch {
                    // A reader who goes is no error of ours.
                    if !isGone { engine.logger.error("an export was cut off", metadata: ["error": "\(error)"]) }
                    throw error
                }
                withExtendedLifetime(place) {}
                try await writer.finish(nil)
            })
    }

    fileprivate static func car(_ bytes: [UInt8]) -> Response {
        Response(
            status: .ok, headers: [.contentType: "application/vnd.ipld.car", .contentLength: String(bytes.count)],
            body: .init(byteBuffer: ByteBuffer(bytes: bytes)))
    }
}
