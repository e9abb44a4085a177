import ATProto

/// What the demo leaves to try: lines for a shell. All of them work in this order, again and again.
///
/// They name people by their bare DIDs, which development mode believes; apps send tokens, as the demo itself did.
struct DemoLines {
    let url: String
    let service: String
    let directory: String
    let writer: DID
    let reader: DID
    /// As whoever runs the demo calls this program.
    let program: String

    private static let collection = "zone.stratos.feed.post"
    private static let (general, writers) = ("3lq2222222222", "3lq2222222223")

    var text: String {
        let posts = "repo=\(writer)&collection=\(Self.collection)"
        return """
            # create: Alice writes for everybody in 'general', then for 'writers' only
            \(call(writer, "com.atproto.repo.createRecord", create(Self.general, "For all of us", "general")))
            \(call(writer, "com.atproto.repo.createRecord", create(Self.writers, "For writers", "writers")))
            # read: Bob is in 'general'
            \(get(reader, "com.atproto.repo.getRecord?\(posts)&rkey=\(Self.general)"))
            # refused read: Bob is not in 'writers'; to him that record does not exist
            \(get(reader, "com.atproto.repo.getRecord?\(posts)&rkey=\(Self.writers)"))
            # list: Bob sees what is in 'general', Alice everything
            \(get(reader, "com.atproto.repo.listRecords?\(posts)"))
            \(get(writer, "com.atproto.repo.listRecords?\(posts)"))
            # update
            \(call(writer, "com.atproto.repo.putRecord", create(Self.general, "For all of us, improved", "general")))
            # proof: the record, and the tree's path to the signed commit
            \(get(writer, "com.atproto.sync.getRecord?did=\(writer)&collection=\(Self.collection)&rkey=\(Self.general)", into: "proof.car"))
            # export: the whole repo; read it with: \(program) repo verify \(directory)/alice.car
            \(get(writer, "zone.stratos.sync.getRepo?did=\(writer)", into: "alice.car"))
            # delete one record
            \(call(writer, "com.atproto.repo.deleteRecord", place(of: Self.writers)))
            # batch: two writes, one commit
            \(call(writer, "com.atproto.repo.applyWrites", batch))
            # the log, signed and chained; the queue of what is still to be done on people's own servers
            \(program) log tail -n 5 --data-dir '\(directory)'
            \(program) reactors --data-dir '\(directory)'
            """
    }

    private func call(_ caller: DID, _ method: String, _ input: Value) -> String {
        let body = String(decoding: DataModelJSON.encode(input), as: UTF8.self)
        return "curl -sS -H 'Authorization: Bearer \(caller)' -H 'Content-Type: application/json' \(url)/xrpc/\(method) -d '\(body)'"
    }

    private func get(_ caller: DID, _ query: String, into file: String? = nil) -> String {
        "curl -sS -H 'Authorization: Bearer \(caller)' '\(url)/xrpc/\(query)'" + (file.map { " -o '\(directory)/\($0)'" } ?? "")
    }

    private func place(of key: String) -> Value {
        ["repo": .string(writer.description), "collection": .string(Self.collection), "rkey": .string(key)]
    }

    private func create(_ key: String, _ text: String, _ boundary: String) -> Value {
        [
            "repo": .string(writer.description), "collection": .string(Self.collection), "rkey": .string(key),
            "record": post(text, boundary),
        ]
    }

    private func post(_ text: String, _ boundary: String) -> Value {
        [
            "$type": .string(Self.collection), "text": .string(text), "createdAt": "2026-01-01T00:00:00.000Z",
            "boundary": ["values": [["value": .string("\(service)/\(boundary)")]]],
        ]
    }

    private var batch: Value {
        [
            "repo": .string(writer.description),
            "writes": [
                [
                    "$type": "com.atproto.repo.applyWrites#create", "collection": .string(Self.collection),
                    "value": post("One of a batch", "general"),
                ],
                [
                    "$type": "com.atproto.repo.applyWrites#delete", "collection": .string(Self.collection), "rkey": .string(Self.general),
                ],
            ],
        ]
    }
}
