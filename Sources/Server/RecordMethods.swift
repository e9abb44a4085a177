import ATProto
import Authorization
import Commands
import Engine
import EventLog
import HTTPTypes
import Hummingbird

/// `com.atproto.repo.*`: writing and reading records (wire contract, section 1.3).
func recordMethods(_ engine: Engine, writer: RecordWriter, accounts: Accounts) throws -> [XRPCMethod] {
    [
        XRPCMethod(id: try NSID("com.atproto.repo.createRecord"), kind: .procedure, access: .user) { call in
            let receipt = try await writer.write(call, refusal: "Cannot create record for another user") { input in
                [try RecordWrite(input, action: .create)]
            }
            return .json(try receipt.recordAnswer(of: try call.user()))
        },
        XRPCMethod(id: try NSID("com.atproto.repo.putRecord"), kind: .procedure, access: .user) { call in
            let receipt = try await writer.write(call, refusal: "Cannot update record for another user") { input in
                [try RecordWrite(input, action: .put, swap: try swap(input, nullMeansNothing: true))]
            }
            return .json(try receipt.recordAnswer(of: try call.user()))
        },
        XRPCMethod(id: try NSID("com.atproto.repo.deleteRecord"), kind: .procedure, access: .user) { call in
            let receipt = try await writer.write(call, refusal: "Cannot delete record for another user") { input in
                [try RecordWrite(input, action: .delete, swap: try swap(input, nullMeansNothing: false))]
            }
            return .json(receipt.changed ? ["commit": receipt.commitAnswer] : [:])
        },
        XRPCMethod(id: try NSID("com.atproto.repo.applyWrites"), kind: .procedure, access: .user, normalize: officialWrites) { call in
            let receipt = try await writer.write(call, refusal: "Cannot write to another user's repo", isBatch: true) { input in
                try (input["writes"]?.arrayValue ?? []).map(RecordWrite.init(item:))
            }
            let owner = try call.user()
            let results = receipt.results.map { $0.answer(of: owner) }
            return .json(["results": .array(results), "commit": receipt.commitAnswer])
        },
        XRPCMethod(id: try NSID("com.atproto.repo.getRecord"), kind: .query, access: .open) { call in
            guard let owner = await owner(call, accounts) else { throw XRPCError.recordNotFound }
            let cid = try call.parameters["cid"]?.stringValue.map(parsedCID)
            guard let record = try await engine.record(at: try call.path(), of: owner, cid: cid, to: call.caller) else {
                throw XRPCError.recordNotFound
            }
            return .json(record.content.response)
        },
        XRPCMethod(id: try NSID("com.atproto.repo.listRecords"), kind: .query, access: .open) { call in
            guard let owner = await owner(call, accounts) else { return .json(["records": []]) }
            let page = try await engine.records(
                in: try call.collection(), of: owner, after: try call.parameters["cursor"]?.stringValue.map(cursor),
                reversed: call.parameters["reverse"]?.boolValue ?? false, limit: Int(call.parameters["limit"]?.integerValue ?? 50),
                to: call.caller)
            var answer: ValueMap = ["records": .array(page?.content.records.map(\.response) ?? [])]
            if let cursor = page?.content.cursor { answer["cursor"] = .string(cursor.description) }
            return .json(.map(answer))
        },
        XRPCMethod(id: try NSID("com.atproto.repo.describeRepo"), kind: .query, access: .open) { call in
            guard let owner = await owner(call, accounts), let collections = try await engine.collections(of: owner, to: call.caller) else {
                throw XRPCError.repoNotFound
            }
            // Asked only now, when it is known that there is something to tell.
            let account = await accounts.description(of: owner)
            return .json([
                "handle": .string(account?.handle?.description ?? owner.description), "did": .string(owner.description),
                "didDoc": account?.document ?? ["id": .string(owner.description)],
                "collections": .array(collections.content.map { .string($0.description) }),
                "handleIsCorrect": .bool(account?.handleIsCorrect ?? false),
            ])
        },
    ]
}

/// Whose repo the parameter `repo` names, by DID or by handle; nil is answered like a repo that nobody knows.
private func owner(_ call: XRPCCall, _ accounts: Accounts) async -> DID? {
    await accounts.account(call.parameters["repo"]?.stringValue ?? "", for: call.caller)
}

/// Writes on behalf of a caller: whose repo it is, how often, and then the engine.
struct RecordWriter: Sendable {
    let engine: Engine
    let limiter: WriteRateLimiter
    let now: @Sendable () -> ContinuousClock.Instant

    func write(
        _ call: XRPCCall, refusal: String, isBatch: Bool = false, writes: (Value) throws -> [RecordWrite]
    ) async throws -> WriteReceipt {
        let user = try call.user()
        guard call.input["repo"]?.stringValue == user.description else { throw XRPCError.authenticationRequired(refusal) }
        let writes = try writes(call.input)
        if let wait = limiter.admit(user, cost: max(1, writes.count), now: now()) { throw XRPCError.rateLimited(wait) }
        let request = WriteRequest(
            repo: user, writes: writes, swapCommit: try call.input["swapCommit"]?.stringValue.map(parsedCID),
            checksLexicons: call.input["validate"]?.boolValue, refusesAbsentDelete: isBatch, agent: try call.agent(),
            client: try call.client(), use: call.proven?.use)
        return try await XRPCError.wording { try await engine.write(request) }
    }
}

/// The reference's own items, `{action, collection, rkey, record}`, as the official ones.
private func officialWrites(_ input: Value) -> Value {
    guard case .map(var fields) = input, let items = fields["writes"]?.arrayValue else { return input }
    fields["writes"] = .array(
        items.map { item in
            guard case .map(var write) = item, write["$type"] == nil, let action = write["action"]?.stringValue else { return item }
            write.remove("action")
            write["$type"] = .string("com.atproto.repo.applyWrites#\(action)")
            if let record = write.remove("record") { write["value"] = record }
            return .map(write)
        })
    return .map(fields)
}

private func cursor(_ text: String) throws(XRPCError) -> RecordKey {
    do { return try RecordKey(text) } catch { throw .invalidRequest("the cursor is not one that this service gave") }
}

private func parsedCID(_ text: String) throws(XRPCError) -> CID {
    do { return try CID(text) } catch { throw .invalidRequest("\(text.prefix(80)) is not a CID") }
}

private func swap(_ input: Value, nullMeansNothing: Bool) throws(XRPCError) -> RecordWrite.Swap {
    switch input["swapRecord"] {
    case nil: .any
    case .null: nullMeansNothing ? .nothing : .any
    case .string(let text): .record(try parsedCID(text))
    default: throw .invalidRequest("swapRecord must be a CID")
    }
}

extension RecordWrite {
    /// Reads the input of a single write. The lexicon has checked its shape.
    fileprivate init(_ input: Value, action: Action, swap: Swap = .any) throws(XRPCError) {
        do {
            self.init(
                action: action, collection: try NSID(input["collection"]?.stringValue ?? ""),
                recordKey: try input["rkey"]?.stringValue.map { text throws(SyntaxError) in try RecordKey(text) },
                record: input["record"] ?? input["value"], swap: swap)
        } catch {
            throw .invalidRequest("\(error)")
        }
    }

    /// Reads one item of a batch.
    fileprivate init(item: Value) throws(XRPCError) {
        switch item["$type"]?.stringValue {
        case "com.atproto.repo.applyWrites#create": try self.init(item, action: .create)
        case "com.atproto.repo.applyWrites#update": try self.init(item, action: .update)
        case "com.atproto.repo.applyWrites#delete": try self.init(item, action: .delete)
        default: throw .invalidRequest("a write is a create, an update or a delete")
        }
    }
}

extension WriteReceipt {
    /// Whether something was written, now or by an earlier call with the same idempotency key.
    fileprivate var changed: Bool { isNew || isRepeated }

    fileprivate var commitAnswer: Value { ["cid": .string(commit.description), "rev": .string(rev.description)] }

    /// `{uri, cid, commit: {cid, rev}}` of a single create or put.
    fileprivate func recordAnswer(of owner: DID) throws -> Value {
        guard let result = results.first, result.cid != nil, case .map(var answer) = result.answer(of: owner) else {
            throw XRPCError.internalServerError
        }
        answer["commit"] = commitAnswer
        return .map(answer)
    }
}

extension WriteReceipt.Result {
    /// `{uri, cid}`, or an empty object for a delete.
    fileprivate func answer(of owner: DID) -> Value {
        guard let cid else { return [:] }
        return ["uri": .string(path.uri(of: owner).description), "cid": .string(cid.description)]
    }
}
