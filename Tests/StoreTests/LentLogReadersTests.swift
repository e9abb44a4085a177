import ATProto
import EventLog
import Foundation
import Simulation
import Testing

@testable import SQLiteStore

@Suite("Reading blocks on the caller's thread")
struct LentLogReadersTests {
    /// A store with a few actors and a block of each.
    private func filled(_ stores: LogStores) async throws -> (LogStore, [(did: DID, block: Block)]) {
        let store = try stores.make()
        var kept: [(did: DID, block: Block)] = []
        for var actor in try await Group.enrolled(4, in: store) {
            let (append, block) = try Self.append(of: &actor)
            _ = try await store.append(append)
            kept.append((actor.did, block))
        }
        return (store, kept)
    }

    private static func append(of actor: inout SimulatedActor) throws -> (Append, Block) {
        let block = actor.record(bytes: 300)
        let append = try actor.putBlob()
        return (Append(actor: append.actor, after: append.after, events: append.events, blocks: [block]), block)
    }

    @Test("gives on many threads at once what the readers' threads give, to each actor its own blocks", arguments: [1, 2])
    func many(connections: Int) async throws {
        var options = LogStoreOptions()
        options.readers = connections
        let (store, kept) = try await filled(LogStores(options))
        let wrong = Counter()
        await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                DispatchQueue.concurrentPerform(iterations: 8) { number in
                    for round in 0..<50 {
                        let (mine, others) = (kept[(number + round) % kept.count], kept[(number + round + 1) % kept.count])
                        let found = try? store.blocksOnThisThread([mine.block.cid, others.block.cid], of: mine.did)
                        let expected = mine.block.cid == others.block.cid ? nil : [mine.block.cid: mine.block.bytes]
                        if found != expected { wrong.increment() }
                    }
                }
                continuation.resume()
            }
        }
        #expect(wrong.value == 0, "seed \(TestFiles.seed)")
        store.close()
    }

    @Test("sees what was appended a moment ago, and nothing once the store is closed")
    func current() async throws {
        let stores = LogStores()
        let store = try stores.make()
        var actor = try await Group.enrolled(1, in: store)[0]
        for _ in 0..<20 {
            let (append, block) = try Self.append(of: &actor)
            #expect(try store.blocksOnThisThread([block.cid], of: actor.did) == [:])
            _ = try await store.append(append)
            #expect(try store.blocksOnThisThread([block.cid], of: actor.did) == [block.cid: block.bytes], "seed \(TestFiles.seed)")
        }
        store.close()
        #expect(throws: EventLogError.closed) { try store.blocksOnThisThread([], of: actor.did) }
    }

    @Test("a block whose bytes were changed in the file is damage, and is not given")
    func damaged() async throws {
        let stores = LogStores()
        let (store, kept) = try await filled(stores)
        store.close()
        let file = try SQLiteConnection(
            path: store.directory + "/" + LogStore.fileName, options: .durable)
        try file.run("UPDATE blocks SET block = CAST(block || x'00' AS BLOB)")
        file.close()
        let again = try stores.open(store.directory)
        for (did, block) in kept {
            #expect(throws: EventLogError.self) { try again.blocksOnThisThread([block.cid], of: did) }
        }
        again.close()
    }
}
