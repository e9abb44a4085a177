import ATProto
import EventLog
import Simulation
import Synchronization
import Testing

@testable import SQLiteStore

@Suite("The log on a disk that fails")
struct LogFaultTests {
    private let files = FaultyFiles()
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    @Test("a fault at any file call loses nothing that was acknowledged and shows nothing that was refused (I5, I6): a sample")
    func faults() async throws {
        let result = try await FaultProof.proof.run(ProofRequest(seed: TestFiles.seed, small: true, directory: directory.path))
        #expect(result.failures == [])
        #expect(result.counts.first { $0.name == "faults" }?.count == 40)
    }

    @Test("after kill -9, and after a loss of power at any moment, the log is whole (I2, I3, I6, I13): a sample")
    func crashes() async throws {
        let result = try await CrashProof.proof.run(ProofRequest(seed: TestFiles.seed, small: true, directory: directory.path))
        #expect(result.failures == [])
        #expect(result.counts.first { $0.name == "losses of power" }?.count == 150)
    }

    @Test("a read that fails within a group ends the group: what was written of it is not committed row by row (I13)")
    func readInGroup() async throws {
        var options = LogTrial.options
        options.checkpointPages = 1
        let trial = try LogTrial(files, directory: directory.path, options: options)
        // Heads and pages of the first ones are long forgotten.
        let actors = try await Group.enrolled(40, in: trial.store)
        var fault = FaultyFiles.Fault(first: 1)
        fault.calls = [.read]
        let results = try await Group.appendBehind([actors[39], actors[2], actors[3], actors[4]], to: trial.store, files) {
            files.fail(fault)
        }
        #expect(files.hit != nil, "no read failed")
        _ = try results[0].get()
        for result in results.dropFirst() { #expect(throws: EventLogError.self) { try result.get() } }
        #expect(trial.fatality != nil)
        trial.store.close()
        files.fail(nil)
        let again = try LogTrial(files, directory: directory.path)
        #expect(try await again.store.statistics().events == 42)
        #expect(await ChainVerifier(again.store).verify().findings == [])
        again.store.close()
    }

    @Test("a commit whose WAL index cannot grow may be there: it is not refused as if nothing were stored")
    func indexOfTheWAL() async throws {
        var options = LogTrial.options
        options.groupBytesMax = 2 << 20
        options.checkpointPages = 1 << 20
        let trial = try LogTrial(files, directory: directory.path, options: options)
        var actor = try await Group.enrolled(1, in: trial.store)[0]
        files.fail(FaultyFiles.Fault(first: 1, cause: .noSpace, calls: [.map]))
        var last: Result<[Appended], EventLogError> = .failure(.closed)
        // One region of the index holds some 4,000 pages.
        for number in 0..<24 where files.hit == nil {
            let append = try actor.putBlob()
            let block = Block(hashing: [UInt8](repeating: UInt8(number), count: 900_000))
            last = await trial.append(Append(actor: append.actor, after: append.after, events: append.events, blocks: [block]))
        }
        #expect(files.hit != nil && trial.fatality != nil)
        guard case .failure(.storage) = last else { return #expect(Bool(false), "the last append ends with \(last)") }
        trial.store.close()
        var reopening = LogReopening(directory: directory.path)
        #expect(await reopening.check(files, LogLedger()).problems.filter { !$0.contains("nobody appended") } == [])
    }

    @Test("of the two copies of the mark one is whole after any loss of power, whatever processes ended before it")
    func mark() throws {
        var random = SeededGenerator(seed: TestFiles.seed)
        for round in 0..<40 {
            // A process writes some marks and dies in the middle; the next one goes on with what it finds, and dies too.
            var (disk, next) = (FaultyFiles(), FaultyFiles())
            var durable: UInt64 = 0
            for process in 0..<3 {
                let begun = disk.operationCount
                let written = try writeMarks(disk)
                for moment in begun...disk.operationCount {
                    let expected = written.last { $0.operations <= moment }?.position ?? durable
                    let left = try markLeft(disk, after: moment, seed: random.next())
                    #expect(left ?? 0 >= expected, "process \(process), operation \(moment), round \(round), seed \(TestFiles.seed)")
                }
                let moment = UInt64.random(in: begun...disk.operationCount, using: &random)
                durable = written.last { $0.operations <= moment }?.position ?? durable
                disk.copy(after: moment, to: next)
                swap(&disk, &next)
            }
        }
    }

    /// Opens the mark, takes it up where it is, and moves it twice.
    /// - Returns: what was durable after how many operations.
    private func writeMarks(_ files: FaultyFiles) throws -> [(operations: UInt64, position: UInt64)] {
        let file = try MarkFile(directory: directory.path, vfs: files.name)
        let first = file.mark ?? .empty
        try file.begin(first)
        var written = [(files.operationCount, first.position)]
        for position in first.position + 1...first.position + 2 {
            try file.write(MarkFile.Mark(position: position, digest: CID(hashing: [UInt8(position)]).digest))
            written.append((files.operationCount, position))
        }
        return written
    }

    private func markLeft(_ files: FaultyFiles, after moment: UInt64, seed: UInt64) throws -> UInt64? {
        let cut = FaultyFiles()
        files.cut(after: moment, seed: seed, to: cut)
        return try MarkFile(directory: directory.path, vfs: cut.name).mark?.position
    }
}
