import ATProto
import Foundation
import SQLiteStore
import Simulation
import Testing

@Suite("service.sqlite: flows and sessions")
struct ServiceDatabaseTests {
    private let directory: TemporaryDirectory
    private static let account = "did:plc:aliceaaaaaaaaaaaaaaaaaaa"

    init() throws { directory = try TemporaryDirectory() }

    @Test("a flow is taken once, and by one of many who want it")
    func flows() async throws {
        let database = try ServiceDatabase(directory: directory.path)
        defer { database.close() }
        #expect(try await database.keepFlow([1], [7, 8], expires: 600, now: 0))
        #expect(try await database.flow([1]) == [7, 8])
        #expect(try await database.flow([2]) == nil)
        let taken = try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<16 { group.addTask { try await database.takeFlow([1]) } }
            return try await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(taken == 1)
        #expect(try await database.flow([1]) == nil)
    }

    @Test("as many flows wait as may; those that have expired make room, to the second")
    func bounded() async throws {
        let database = try ServiceDatabase(directory: directory.path, flowsMax: 2)
        defer { database.close() }
        #expect(try await database.keepFlow([1], [0], expires: 600, now: 0))
        #expect(try await database.keepFlow([2], [0], expires: 601, now: 0))
        #expect(try await !database.keepFlow([3], [0], expires: 1199, now: 599))
        #expect(try await database.keepFlow([3], [0], expires: 1200, now: 600))
        #expect(try await database.flow([1]) == nil)
        #expect(try await database.flow([2]) == [0])
        #expect(try await !database.keepFlow([4], [0], expires: 1200, now: 600))
    }

    @Test("sessions and flows are there after a start, ended ones as ended, in a file that is nobody else's")
    func durable() async throws {
        let (alice, bob) = (try DID(Self.account), try DID("did:web:bob.example"))
        let first = try ServiceDatabase(directory: directory.path)
        try await first.keep(.sealed([1, 2, 3]), of: alice)
        try await first.keep(.sealed([4]), of: bob)
        try await first.keep(.ended(reason: "RefreshRefused", at: 17), of: bob)
        #expect(try await first.keepFlow([1], [9], expires: 600, now: 0))
        first.close()
        await #expect(throws: ServiceDatabase.Failure.overloaded) { try await first.session(of: alice) }
        let mode = try FileManager.default.attributesOfItem(atPath: directory.file(ServiceDatabase.fileName))[.posixPermissions] as? Int
        #expect(mode == 0o600)
        let second = try ServiceDatabase(directory: directory.path)
        defer { second.close() }
        #expect(try await second.session(of: alice) == .sealed([1, 2, 3]))
        #expect(try await second.session(of: bob) == .ended(reason: "RefreshRefused", at: 17))
        #expect(try await second.flow([1]) == [9])
        try await second.removeSession(of: alice)
        #expect(try await second.session(of: alice) == nil)
    }

    @Test("a file that is no database is refused, and left as it is")
    func damaged() throws {
        let path = directory.file(ServiceDatabase.fileName)
        let bytes = Data([UInt8](repeating: 0x41, count: 4096))
        try bytes.write(to: URL(filePath: path))
        #expect(throws: SQLiteError.self) { try ServiceDatabase(directory: directory.path) }
        #expect(FileManager.default.contents(atPath: path) == bytes)
    }
}
