import ATProto
import Authorization
import Commands
import EventLog
import Keys
import Projections

extension Engine {
    package typealias Emit = @Sendable (OperatorOutput) async throws -> Void

    /// Carries out an operator's command: the same code in the program and in the running server.
    /// - Parameter open: opens the file of an import.
    /// - Throws: `OperatorFailure`.
    package func perform(_ command: OperatorCommand, open: @Sendable (String) throws -> ImportSource, emit: @escaping Emit) async throws {
        do {
            try await carryOut(command, open: open, emit: emit)
        } catch let failure as OperatorFailure {
            throw failure
        } catch let refusal as Refusal {
            throw OperatorFailure(exitCode: 1, name: refusal.name, message: refusal.reason)
        } catch let error as EventLogError {
            throw OperatorFailure(exitCode: 3, name: "LogFailed", message: "\(error)")
        } catch is CancellationError {
            throw OperatorFailure(exitCode: 3, name: "Cancelled", message: "the command was stopped before it was done")
        } catch {
            throw OperatorFailure(exitCode: 3, name: "Failed", message: "\(error)")
        }
    }

    private func carryOut(_ command: OperatorCommand, open: @Sendable (String) throws -> ImportSource, emit: @escaping Emit) async throws {
        switch command {
        case .enroll(let did, let boundaries, let pds):
            try await emit(.object(try await enroll(did, boundaries: boundaries, pds: pds, by: try operatorAgent()).value))
        case .unenroll(let did, let keepsContent):
            let content: AccountLeave.Content = keepsContent ? .kept : .erase
            try await leave(did, content: content, reason: "", by: try operatorAgent())
            try await emit(
                .object(["did": .string(did.description), "unenrolled": true, "content": .string(content.rawValue)]))
        case .rekey(let did): try await emit(.object(try await changeKey(of: did, by: try operatorAgent()).value))
        case .changeBoundaries(let did, let change):
            try await emit(.object(try await changeBoundaries(of: did, change, by: try operatorAgent()).boundariesValue))
        case .boundaries(let did):
            guard let enrollment = try await enrollment(of: did) else { throw Refusal.notEnrolled }
            try await emit(.object(enrollment.boundariesValue))
        case .enrollments: try await listEnrollments(emit)
        case .auditReads(let did): try await listAdminReads(of: did, emit)
        case .importRepo(let did, let path, let options):
            let receipt = try await importRepo(try open(path), into: did, options: options, by: try operatorAgent()) { done, total in
                try await emit(.progress(done: done, of: total))
            }
            try await emit(.object(receipt.value))
        case .export(let did): try await export(did, emit: emit)
        case .get(let uri): try await emit(.object(try await get(uri)))
        case .usage(let did): try await emit(.object(try await usageValue(of: did)))
        case .digest(let actor, let until):
            let report = if let until { try await digestFromLog(of: actor, until: until) } else { try await digest(of: actor) }
            try await emit(.object(report.value))
        case .rebuild(let actor):
            let began = surroundings.now()
            let report = try await rebuild(actor) { done, total in try await emit(.progress(done: done, of: total)) }
            let milliseconds = (surroundings.now() - began) / 1000  // The data model has no fractions: whole seconds beside it.
            try await emit(
                .object([
                    "events": .integer(Int64(report.events)), "actors": .integer(Int64(report.actors)),
                    "seconds": .integer((milliseconds + 500) / 1000), "milliseconds": .integer(milliseconds),
                    "digest": .string(report.digest),
                ]))
        case .dropProjections: try await emit(.object(["removed": .integer(Int64(try await dropProjections()))]))
        case .verify(let actor, let signatures): try await verify(actor, signatures: signatures, emit: emit)
        case .logShow(let did, let after, let limit): try await show(did, after: after, limit: limit, emit: emit)
        case .logTail(let count, let follow): try await tail(count: count, follow: follow, emit: emit)
        case .logStatistics: try await emit(.object(try await log.statistics().value))
        case .reactors: try await listReactors(emit)
        }
    }

    private func operatorAgent() throws -> Agent { Agent(did: try requireAuthority().terms.serviceDID, credential: .operator) }

    private func export(_ did: DID, emit: Emit) async throws {
        guard let export = try await exportForOperator(of: did) else { throw Refusal.notEnrolled }
        try await export.content.stream(from: self) { try await emit(.bytes($0)) }
    }

    private func get(_ uri: ATURI) async throws -> Value {
        guard let (owner, path) = uri.place else {
            throw Refusal.invalidRequest("the URI must name a DID, a collection and a record key")
        }
        guard let record = try await recordForOperator(at: path, of: owner) else { throw Refusal.recordNotFound }
        return record.content.response
    }

    private func usageValue(of did: DID?) async throws -> Value {
        let actors = try await usage(of: did).map { actor -> Value in
            var collections = ValueMap()
            for (collection, usage) in actor.collections { collections[collection.description] = usage.value }
            let all = actor.collections.values.reduce(into: Usage()) { total, usage in
                total.records += usage.records
                total.bytes += usage.bytes
            }
            return [
                "did": .string(actor.did.description), "records": .integer(Int64(all.records)), "bytes": .integer(Int64(all.bytes)),
                "collections": .map(collections),
            ]
        }
        return ["actors": .array(actors)]
    }

    private func verify(_ actor: DID?, signatures: Bool, emit: Emit) async throws {
        var options = ChainVerifier.Options()
        options.actor = actor
        options.signatures = signatures
        let report = await ChainVerifier(log, options: options).verify()
        // A damaged log may have lost the actor: only a whole one can say that there is none.
        if report.isWhole, let actor { try await requireLog(of: actor) }
        try await emit(
            .object([
                "ok": .bool(report.isWhole), "events": .integer(Int64(report.events)), "problems": .array(report.findings.map(\.value)),
            ]))
        guard report.isWhole else {
            throw OperatorFailure(exitCode: 1, name: "ProblemsFound", message: "\(report.findingCount) problems were found")
        }
    }

    private func listEnrollments(_ emit: Emit) async throws {
        var after: DID?
        repeat {
            let (page, cursor) = try await enrollments(after: after, limit: 256)
            for enrollment in page { try await emit(.object(enrollment.value)) }
            after = cursor
        } while after != nil
    }

    private func listAdminReads(of did: DID, _ emit: Emit) async throws {
        var before: UInt64?
        repeat {
            let page = try await adminReads(of: did, before: before, limit: 256)
            for read in page.reads { try await emit(.object(read.value)) }
            before = page.cursor
        } while before != nil
    }

    private func requireLog(of did: DID) async throws {
        guard try await log.head(of: did).sequence > 0 else { throw Refusal.notEnrolled }
    }

    private func show(_ did: DID, after: UInt64, limit: Int, emit: Emit) async throws {
        try await requireLog(of: did)
        var shown = after
        var left = limit
        while left > 0 {
            let page = try await log.events(of: did, after: shown, limit: min(left, 256))
            guard !page.isEmpty else { return }
            for stored in page {
                let event = try Event(bytes: stored.bytes)
                try await emit(.object(event.line(stored)))
                shown = event.sequence
            }
            left -= page.count
        }
    }

    private func tail(count: Int, follow: Bool, emit: Emit) async throws {
        var position = try await cursor(beforeLast: UInt64(count))
        while true {
            let page = try await log.events(afterPosition: position, limit: 256)
            for stored in page {
                try await emit(.object(try Event(bytes: stored.bytes).line(stored)))
                position = stored.position ?? position
            }
            guard page.isEmpty else { continue }
            guard follow else { return }
            try await Task.sleep(for: .milliseconds(200))
        }
    }

    /// The raw cursor behind which the last `count` events stand; 0 where there are no more. Positions begin anew with each generation,
    /// whose first event names the last one before it.
    private func cursor(beforeLast count: UInt64) async throws -> UInt64 {
        let head = try await log.statistics().position
        guard var end = StreamCursor(rawValue: head) else { throw EventLogError.malformed("the log's head \(head) is no position") }
        var left = count
        while end.position < left {
            let begin = end.rawValue - end.position
            guard let before = try await lastCursor(beforeGenerationAt: begin) else { return begin }
            left -= end.position
            end = before
        }
        return end.rawValue - left
    }

    private func lastCursor(beforeGenerationAt begin: UInt64) async throws -> StreamCursor? {
        guard let first = try await log.events(afterPosition: begin, limit: 1).first, let body = first.body,
            case let event = try Event(bytes: first.bytes), event.kind == .serviceStart,
            case .serviceStart(let start) = try EventBody(kind: event.kind, bytes: body), let before = start.before, before < begin
        else { return nil }
        return StreamCursor(rawValue: before)
    }

    /// A record for whoever runs the program on the machine.
    private func recordForOperator(at path: RecordPath, of owner: DID) async throws -> Readable<RecordContent>? {
        guard try await log.head(of: owner).sequence > 0 else { return nil }
        guard let row = try await withCurrent(owner, { _, rows in try rows.record(path) }) else { return nil }
        return try await contents(of: [row], owner: owner).first.map { ReadPolicy.releaseToOperator($0) }
    }
}
