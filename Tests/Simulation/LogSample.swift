import ATProto
import EventLog
package import SQLiteStore

/// A made-up log on disk, small and with everything in it: several actors, imports that were staged, requests, a change of the
/// service's key; and its files as they stood at chosen moments, with what had been appended until then.
package struct LogSample: Sendable {
    /// The files at one moment, between two appends.
    package struct Moment: Sendable {
        package let image: LogImage
        package let recorded: RecordedLog
    }

    private let directory: String
    private var store: LogStore?
    private var options: LogStoreOptions
    private var service: SimulatedService
    private var actors: [SimulatedActor]
    private var random: SeededGenerator
    private var requestCount = 0
    package private(set) var recorded = RecordedLog()

    /// - Parameter directory: an empty one, in which the log is made.
    package init(seed: UInt64, directory: String, actors count: Int = 3, options: LogStoreOptions = LogJudge.options) throws {
        self.directory = directory
        self.options = options
        random = SeededGenerator(seed: seed)
        service = try SimulatedService(seed: seed)
        actors = []
        for number in 0..<count { actors.append(try SimulatedActor(number: number, seed: seed, service: service)) }
    }

    /// A log in one file of at least so many bytes, its WAL gone, as after an orderly stop.
    package static func closed(seed: UInt64, directory: String, bytesMin: Int) async throws -> Moment {
        var sample = try LogSample(seed: seed, directory: directory)
        try await sample.begin()
        try await sample.grow(to: bytesMin)
        return try sample.moment()
    }

    /// A log whose last events stand in the WAL alone, of at least so many bytes: as a process leaves it that was killed.
    package static func killed(seed: UInt64, directory: String, bytesMin: Int, walBytesMin: Int) async throws -> Moment {
        var sample = try LogSample(seed: seed, directory: directory)
        try await sample.begin()
        try await sample.grow(to: bytesMin)
        while try sample.moment().image.byteCount(.wal) < walBytesMin { try await sample.appendSome(1) }
        let moment = try sample.moment()
        try sample.close()
        return moment
    }

    /// The same log at several moments, in order: within one WAL, after an orderly stop, and after checkpoints without one,
    /// where the WAL begins again over its older frames.
    package static func moments(seed: UInt64, directory: String, rounds: Int) async throws -> [Moment] {
        var sample = try LogSample(seed: seed, directory: directory)
        try await sample.begin()
        var moments: [Moment] = []
        for round in 0..<rounds {
            sample.options.checkpointPages = round % 2 == 1 ? 24 : LogJudge.options.checkpointPages
            for _ in 0..<3 {
                try await sample.appendSome(3)
                moments.append(try sample.moment())
            }
            try sample.close()
            moments.append(try sample.moment())
        }
        return moments
    }

    /// Appends until the log is one file of so many bytes, and hardly more.
    private mutating func grow(to bytesMin: Int) async throws {
        repeat {
            try await appendSome(2)
            try close()
        } while try moment().image.byteCount(.log) < bytesMin
    }

    /// The first events: everybody joins, and the first actor imports so much that its blocks are staged.
    package mutating func begin() async throws {
        try await append(try service.start())
        for index in actors.indices { try await append(try actors[index].enroll()) }
        try await append(try actors[0].importing(records: 24))
        try await append(try service.changeKey())
        for index in actors.indices { try await append(try actors[index].attestAnew(by: service)) }
    }

    package mutating func appendSome(_ count: Int) async throws {
        for _ in 0..<count {
            let index = Int.random(in: 0..<actors.count, using: &random)
            switch Int.random(in: 0..<8, using: &random) {
            case 0: try await append(try actors[index].changeBoundaries(["general"]))
            case 1: try await append(try actors[index].putBlob())
            case 2: try await append(try actors[index].changeKey())
            case 3: try await append(try actors[index].write(operations: 3, recordBytes: 500))
            case 4: try await appendRequest()
            default: try await append(try actors[index].write())
            }
        }
    }

    /// A write with an idempotency key.
    package mutating func appendRequest() async throws {
        let index = Int.random(in: 0..<actors.count, using: &random)
        requestCount += 1
        try await append(try actors[index].write(idempotencyKey: "request-\(requestCount)"))
    }

    private mutating func append(_ append: Append) async throws {
        if store == nil {
            store = try LogStore(directory: directory, options: options) { error in preconditionFailure("the sample's log failed: \(error)")
            }
        }
        _ = try await store!.append(append)
        recorded.take(append)
    }

    /// The files as they stand; nothing is being written.
    package func moment() throws -> Moment { Moment(image: try LogImage(of: directory), recorded: recorded) }

    package mutating func close() throws {
        store?.close()
        store = nil
    }
}
