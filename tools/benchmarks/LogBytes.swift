import ATProto
import EventLog
import SQLiteStore
import Simulation

/// What a write takes in `log.sqlite`: pages by table and index, so that half-full pages and rows' heads count too.
enum LogBytes {
    /// A log of one-operation writes without idempotency keys, then as many with one.
    static func figures(_ request: BenchmarkRequest) async throws -> [Figure] {
        let count = request.size(40_000, quick: 1_000)
        var load = try await LogLoad.make(in: request.directory, actors: request.size(1000, quick: 100), seed: request.seed)
        load.store.close()
        let empty = try pages(in: request.directory)

        var (recordBytes, eventBytes, bodyBytes) = (0, 0, 0)
        try await write(
            count, into: &load, request,
            note: { append in
                recordBytes += append.blocks[0].bytes.count
                eventBytes += append.events[0].bytes.count
                bodyBytes += append.events[0].bodyBytes.count
            })
        let plain = try pages(in: request.directory)
        let input = CID(hashing: [1]).digest
        let method = try NSID("com.atproto.repo.createRecord")
        var number: UInt64 = 0
        try await write(
            count, into: &load, request,
            client: {
                number += 1
                return ClientRequest(key: CID(hashing: withUnsafeBytes(of: number) { Array($0) }).digest, input: input, method: method)
            })
        let asked = try pages(in: request.directory)

        let writes = Double(count)
        func grown(_ table: String, from before: [String: Int] = empty, to after: [String: Int] = plain) -> Double {
            Double((after[table] ?? 0) - (before[table] ?? 0)) / writes
        }
        let record = Double(recordBytes) / writes
        let whole = plain.keys.reduce(0) { $0 + grown($1) }
        let requests = ["requests", "sqlite_autoindex_requests_1"].reduce(0) { $0 + grown($1, from: plain, to: asked) }
        return [
            Figure("the record itself", record, .bytes), Figure("the event itself", Double(eventBytes) / writes, .bytes),
            Figure("the body itself", Double(bodyBytes) / writes, .bytes), Figure("event row", grown("events"), .bytes),
            Figure("body row", grown("bodies"), .bytes), Figure("block row, with the record", grown("blocks"), .bytes),
            Figure("index of events by actor", grown("events_of_actor"), .bytes),
            Figure("index of blocks by CID", grown("blocks_of_actor"), .bytes),
            Figure("request row and index, of a write with a key", requests, .bytes),
            Figure("a one-operation write beyond its record", whole - record, .bytes, .atMost(1300)),
        ]
    }

    private static func write(
        _ count: Int, into load: inout LogLoad, _ request: BenchmarkRequest, client: () -> ClientRequest? = { nil },
        note: (Append) -> Void = { _ in }
    ) async throws {
        let store = try LogStore(directory: request.directory) { fatalError("the log failed: \($0)") }
        defer { store.close() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<count {
                // In turn over the actors; a round ends before the next begins, so no two events of one actor race.
                if number % load.actors.count == 0 { try await group.waitForAll() }
                let append = try load.actors[number % load.actors.count].write(asking: client())
                note(append)
                group.addTask { _ = try await store.append(append) }
            }
            try await group.waitForAll()
        }
    }

    /// Bytes of pages by table and index.
    private static func pages(in directory: String) throws -> [String: Int] {
        let connection = try SQLiteConnection(
            path: directory + "/" + LogStore.fileName,
            options: SQLiteOptions(access: .readOnly, synchronous: .full, autocheckpointPages: 0))
        defer { connection.close() }
        let rows = try connection.all("SELECT name, sum(pgsize) FROM dbstat GROUP BY name") { ($0.text(0), Int($0.integer(1))) }
        return Dictionary(uniqueKeysWithValues: rows)
    }
}
