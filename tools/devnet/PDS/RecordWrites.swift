import ATProto
import HTTPTypes
import Hummingbird

/// `createRecord`, `putRecord` and `deleteRecord` by the rules of the public PDS. There is no repo behind them, so no commit is
/// named in the answers and none can be swapped.
struct RecordWrites: Sendable {
    let pds: PDS
    let server: OAuthServer

    var methods: [String: PDSMethod] {
        [
            "com.atproto.repo.createRecord": .procedure { try await self.answer($0, self.create) },
            "com.atproto.repo.putRecord": .procedure { try await self.answer($0, self.put) },
            "com.atproto.repo.deleteRecord": .procedure { try await self.answer($0, self.delete) },
        ]
    }

    /// Every answer carries the nonce to use next, refusals too.
    private func answer(_ request: Request, _ write: (ValueMap, PDSCaller) throws -> Value) async throws -> Response {
        var response: Response
        do {
            let caller = try pds.caller(of: request, server)
            response = Response.json(try write(try await request.jsonObject(), caller))
        } catch let refusal as OAuthRefusal {
            response = refusal.resourceResponse
        } catch let refusal as XRPCRefusal {
            response = refusal.response
        }
        server.addNonce(to: &response)
        return response
    }

    private func create(_ input: ValueMap, by caller: PDSCaller) throws -> Value {
        let target = try target(of: input, caller)
        try caller.require(.create, in: target.collection)
        let record = try record(of: input, in: target.collection)
        let key = try target.key ?? pds.newRecordKey()
        let place = RecordPlace(did: caller.account.did, collection: target.collection, key: key)
        // The public PDS finds out in its tree and fails; what matters is that the record that is there stays.
        guard let write = pds.change(place, { $0 == nil ? .set(record) : .refuse }) else {
            throw XRPCRefusal.invalidRequest("There is already a record at \(place.uri)")
        }
        return accepted(write)
    }

    private func put(_ input: ValueMap, by caller: PDSCaller) throws -> Value {
        let target = try target(of: input, caller)
        // Which of the two it will be is not known yet, so both must be allowed.
        try caller.require(.create, in: target.collection)
        try caller.require(.update, in: target.collection)
        let record = try record(of: input, in: target.collection)
        guard let key = target.key else { throw XRPCRefusal.invalidRequest("Input must have the property \"rkey\"") }
        let place = RecordPlace(did: caller.account.did, collection: target.collection, key: key)
        let swap = try swap(of: input)
        let write = pds.change(place) { current in
            // A record that is as it shall be is no write at all, so nothing is compared.
            if current?.cid != record.cid, let swap, swap != current?.cid { return .refuse }
            return .set(record)
        }
        guard let write else { throw wrongSwap(place) }
        return accepted(write)
    }

    private func delete(_ input: ValueMap, by caller: PDSCaller) throws -> Value {
        let target = try target(of: input, caller)
        try caller.require(.delete, in: target.collection)
        guard let key = target.key else { throw XRPCRefusal.invalidRequest("Input must have the property \"rkey\"") }
        let place = RecordPlace(did: caller.account.did, collection: target.collection, key: key)
        let swap = try swap(of: input)
        let write = pds.change(place) { current in
            if let current, case .some(.some(let swap)) = swap, swap != current.cid { return .refuse }
            return .remove
        }
        guard write != nil else { throw wrongSwap(place) }
        return [:]
    }

    private func accepted(_ write: DevnetWrite) -> Value {
        guard let cid = write.cid else { preconditionFailure("a record that was put has a CID") }
        return ["uri": .string(write.uri), "cid": .string(cid.description), "validationStatus": "unknown"]
    }

    private func wrongSwap(_ place: RecordPlace) -> XRPCRefusal {
        let current = pds.record(of: place.did, collection: place.collection, key: place.key)?.cid.description
        return XRPCRefusal(.badRequest, "InvalidSwap", "Record was at \(current ?? "null")")
    }
}

extension RecordWrites {
    private func target(of input: ValueMap, _ caller: PDSCaller) throws(XRPCRefusal) -> (collection: NSID, key: RecordKey?) {
        guard let repo = input["repo"]?.stringValue, let identifier = try? ATIdentifier(repo) else {
            throw .invalidRequest("repo must be a valid did or a handle")
        }
        guard let account = pds.account(identifier) else { throw .invalidRequest("Could not find repo: \(repo)") }
        guard account.did == caller.account.did else { throw .authenticationRequired("Authentication Required") }
        guard let collection = input["collection"]?.stringValue.flatMap({ try? NSID($0) }) else {
            throw .invalidRequest("collection must be a valid nsid")
        }
        guard input["swapCommit"]?.isNull ?? true else { throw .invalidRequest("the devnet keeps no commits that could be swapped") }
        guard let key = input["rkey"] else { return (collection, nil) }
        guard let text = key.stringValue, let key = try? RecordKey(text) else {
            throw .invalidRequest("Invalid record key: \(key.stringValue ?? "")")
        }
        return (collection, key)
    }

    /// The record, which says its type itself, or has it added; no lexicon is known here, so none can be demanded.
    private func record(of input: ValueMap, in collection: NSID) throws(XRPCRefusal) -> PDS.Record {
        guard let json = input["record"], json.mapValue != nil else { throw .invalidRequest("Input must have the property \"record\"") }
        // The body was read as plain JSON; a record's links and bytes are values of their own.
        let decoded: Value
        do { decoded = try DataModelJSON.decode(DataModelJSON.encode(json)) } catch { throw .invalidRequest("\(error)") }
        guard case .map(var record) = decoded else { throw .invalidRequest("Input must have the property \"record\"") }
        if let type = record["$type"] {
            guard type == .string(collection.description) else {
                throw .invalidRequest("Invalid $type: expected \(collection), got \(type.stringValue ?? "another type")")
            }
        } else {
            record["$type"] = .string(collection.description)
        }
        guard input["validate"] != true else { throw .invalidRequest("Unknown lexicon type: \(collection)") }
        return PDS.Record(.map(record))
    }

    /// What `swapRecord` says: nothing, that there is no record, or which.
    private func swap(of input: ValueMap) throws(XRPCRefusal) -> CID?? {
        guard let value = input["swapRecord"] else { return nil }
        if value.isNull { return .some(nil) }
        guard let cid = value.stringValue.flatMap({ try? CID($0) }) else { throw .invalidRequest("swapRecord must be a cid string") }
        return .some(cid)
    }
}
