import ATProto
import EventLog
import Foundation
import Keys
import Simulation
import Testing

/// Fixtures/events holds one event and one body of every kind, kept for ever. `STRATOS_WRITE_GOLDENS=1` rewrites them, which
/// after release 0.1.0 nobody may do.
@Suite("Golden events")
struct GoldenTests {
    private static let folder = TestFiles.root.appending(path: "Fixtures/events")
    private let log: GoldenLog

    init() throws { log = try GoldenLog() }

    @Test("every kind is made again from fixed keys and salts, byte for byte")
    func regenerated() throws {
        #expect(Set(log.events.map(\.event.kind)) == Set(EventKind.all) && log.events.count == EventKind.all.count)
        var files: [(name: String, bytes: [UInt8])] = []
        for signed in log.events {
            files.append(("\(signed.event.kind).v1.event.cbor", signed.bytes))
            files.append(("\(signed.event.kind).v1.body.cbor", signed.bodyBytes))
        }
        files.append(("repo.import.v1.chunk.cbor", log.blocks[4].bytes))
        let key = try PrivateKey(curve: .k256, rawBytes: (0..<32).map { 1 + $0 }).publicKey
        files.append(("key.txt", Array("\(key.didKey)\n".utf8)))
        if ProcessInfo.processInfo.environment["STRATOS_WRITE_GOLDENS"] == "1" {
            try FileManager.default.createDirectory(at: Self.folder, withIntermediateDirectories: true)
            for file in files { try Data(file.bytes).write(to: Self.folder.appending(path: file.name)) }
        }
        for file in files { #expect(try TestFiles.fixture("events/\(file.name)") == file.bytes, "\(file.name)") }
        let stored = try FileManager.default.contentsOfDirectory(atPath: Self.folder.path)
        #expect(Set(stored) == Set(files.map(\.name)))
    }

    @Test("the files are read, verified, and written again as they were", arguments: EventKind.all)
    func readAgain(kind: EventKind) throws {
        let bytes = try TestFiles.fixture("events/\(kind).v1.event.cbor")
        let bodyBytes = try TestFiles.fixture("events/\(kind).v1.body.cbor")
        let event = try Event(bytes: bytes)
        #expect(event.bytes == bytes && event.kind == kind)
        #expect(event.verifies(with: try PrivateKey(curve: .k256, rawBytes: (0..<32).map { 1 + $0 }).publicKey))
        #expect(event.body == CID(hashing: bodyBytes))
        let body = try EventBody(kind: kind, bytes: bodyBytes)
        #expect(body.encoded() == bodyBytes && body.kind == kind && body.provenance.salt.count == 32)
        // Both are ordinary DAG-CBOR to the general codec.
        #expect(DAGCBOR.encode(try DAGCBOR.decode(bytes)) == bytes)
        #expect(DAGCBOR.encode(try DAGCBOR.decode(bodyBytes)) == bodyBytes)
    }

    @Test("a changed bit is refused, or is another event that is written as it was read", arguments: EventKind.all)
    func changedBits(kind: EventKind) throws {
        let bytes = try TestFiles.fixture("events/\(kind).v1.event.cbor")
        let bodyBytes = try TestFiles.fixture("events/\(kind).v1.body.cbor")
        for bit in 0..<(bytes.count * 8) {
            var changed = bytes
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            if let event = try? Event(bytes: changed) { #expect(event.bytes == changed, "bit \(bit)") }
        }
        for bit in 0..<(bodyBytes.count * 8) where bit % 3 == 0 {
            var changed = bodyBytes
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            if let body = try? EventBody(kind: kind, bytes: changed) { #expect(body.encoded() == changed, "bit \(bit) of the body") }
        }
        for count in 0..<bytes.count {
            #expect(throws: EventLogError.self) { try Event(bytes: Array(bytes.prefix(count))) }
        }
        #expect(throws: EventLogError.self) { try Event(bytes: bytes + [0]) }
    }

    @Test("a body has no field more, none less than it needs, and null in none", arguments: EventKind.all)
    func strictFields(kind: EventKind) throws {
        let bodyBytes = try TestFiles.fixture("events/\(kind).v1.body.cbor")
        let map = try #require(try DAGCBOR.decode(bodyBytes).mapValue)
        func accepted(_ map: ValueMap) -> Bool { (try? EventBody(kind: kind, bytes: DAGCBOR.encode(.map(map)))) != nil }
        #expect(accepted(map))
        var extra = map
        extra["unknown"] = 1
        #expect(!accepted(extra))
        let optional: Set<String> = ["request", "pds", "rkey", "cid", "tagKey", "accept"]
        for (key, _) in map {
            var changed = map
            changed[key] = .null
            #expect(!accepted(changed), "\(key): null")
            changed.remove(key)
            #expect(!accepted(changed) || optional.contains(key), "\(key) absent")
        }
        for name in ["by", "request", "commit", "attestation", "subject"] {
            guard var inner = map[name]?.mapValue else { continue }
            inner["unknown"] = true
            var changed = map
            changed[name] = .map(inner)
            #expect(!accepted(changed), "\(name) with a field more")
        }
    }

    @Test("the golden logs verify as a whole")
    func verifies() async throws {
        let store = MemoryEventStore()
        for signed in log.events {
            let before = try await store.head(of: signed.event.did)
            let blocks = signed.event.kind == .repoImport ? log.blocks : []
            let row = RequestRow(of: signed.event, saying: try EventBody(kind: signed.event.kind, bytes: signed.bodyBytes))
            _ = try await store.append(Append(actor: signed.event.did, after: before, events: [signed], blocks: blocks, request: row))
        }
        let report = await ChainVerifier(store).verify()
        #expect(report.findings == [])
        #expect(report.events == UInt64(log.events.count))
    }
}
