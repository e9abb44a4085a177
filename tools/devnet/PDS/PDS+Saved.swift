import ATProto
import Keys

/// The PDS as a file keeps it.
extension PDS {
    var saved: Value {
        let state = contents
        let accounts = state.accounts.values.map { account -> Value in
            [
                "did": .string(account.did.description), "handle": .string(account.handle.description),
                "password": .string(account.password), "repoKey": account.repoKey.saved,
            ]
        }
        var records: [Value] = []
        for (did, collections) in state.records {
            for (collection, keys) in collections {
                for (key, record) in keys {
                    records.append([
                        "did": .string(did.description), "collection": .string(collection.description), "key": .string(key.description),
                        "value": record.value,
                    ])
                }
            }
        }
        return [
            "rotationKey": rotationKey.saved, "secret": .bytes(secret),
            "tokenKeys": .array(state.tokenKeys.map { ["key": $0.saved] }), "accounts": .array(accounts), "records": .array(records),
            "journal": .array(state.journal.map(\.saved)),
        ]
    }

    convenience init(
        directory: PLCDirectory, listening: Listening, configuration: DevnetConfiguration, saved value: Value
    ) throws(DevnetError) {
        let fields = try SavedFields(value)
        var contents = Contents(
            rotationKey: try fields.key("rotationKey"), secret: try fields.bytes("secret"), tokenKeys: [], recordKeys: try PDS.recordKeys())
        for key in try fields.array("tokenKeys") { contents.tokenKeys.append(try SavedFields(key).key("key")) }
        guard !contents.tokenKeys.isEmpty else { throw .unreadable("there is no token key") }
        do {
            for value in try fields.array("accounts") {
                let fields = try SavedFields(value)
                let account = Account(
                    did: try DID(try fields.string("did")), handle: try Handle(try fields.string("handle")),
                    password: try fields.string("password"), repoKey: try fields.key("repoKey"))
                contents.handles[account.handle] = account.did
                contents.accounts[account.did] = account
            }
            for value in try fields.array("records") {
                let fields = try SavedFields(value)
                let (did, collection) = (try DID(try fields.string("did")), try NSID(try fields.string("collection")))
                contents.records[did, default: [:]][collection, default: [:]][try RecordKey(try fields.string("key"))] =
                    Record(try fields.value("value"))
            }
            // Files of before there were clients have no journal.
            for (index, value) in (value["journal"]?.arrayValue ?? []).enumerated() {
                contents.journal.append(try DevnetWrite(value, sequence: index + 1))
            }
        } catch let error as DevnetError {
            throw error
        } catch {
            throw .unreadable("\(error)")
        }
        self.init(directory: directory, listening: listening, configuration: configuration, contents: contents)
    }
}

extension DevnetWrite {
    fileprivate var saved: Value {
        [
            "did": .string(did.description), "action": .string(action.rawValue), "collection": .string(collection.description),
            "key": .string(key.description), "cid": cid.map(Value.link) ?? .null, "isChange": .bool(isChange),
        ]
    }

    fileprivate init(_ value: Value, sequence: Int) throws {
        let fields = try SavedFields(value)
        guard let action = Action(rawValue: try fields.string("action")) else { throw DevnetError.unreadable("action") }
        self.init(
            sequence: sequence, did: try DID(try fields.string("did")), action: action,
            collection: try NSID(try fields.string("collection")),
            key: try RecordKey(try fields.string("key")), cid: value["cid"]?.linkValue, isChange: try fields.bool("isChange"))
    }
}
