import ATProto

/// The directory as a file keeps it.
extension PLCDirectory {
    var saved: Value {
        .array(
            contents.map { did, log in
                let entries = log.map { entry -> Value in
                    ["operation": entry.operation.value, "createdAt": .integer(entry.createdAt), "isNullified": .bool(entry.isNullified)]
                }
                return ["did": .string(did), "log": .array(entries)]
            })
    }

    convenience init(clock: @escaping DevnetClock, saved logs: [Value]) throws(DevnetError) {
        var restored: [String: [Entry]] = [:]
        for value in logs {
            let fields = try SavedFields(value)
            let did = try fields.string("did")
            for value in try fields.array("log") {
                let entry = try SavedFields(value)
                let operation: PLCOperation
                do { operation = try PLCOperation(try entry.value("operation")) } catch {
                    throw .unreadable("an operation of \(did): \(error)")
                }
                restored[did, default: []].append(
                    Entry(operation, createdAt: try entry.integer("createdAt"), isNullified: try entry.bool("isNullified")))
            }
        }
        self.init(clock: clock, logs: restored)
    }
}
