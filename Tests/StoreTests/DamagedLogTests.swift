import EventLog
import SQLiteStore
import Simulation
import Testing

/// The proof `flip`, small: damage by seed, each one refused, found, or without effect.
@Suite("A damaged log")
struct DamagedLogTests {
    private let seed = TestFiles.seed

    /// A log of a killed process and one that was closed.
    private func moments(_ workbench: FlipProof.Workbench) async throws -> [LogSample.Moment] {
        [
            try await LogSample.killed(seed: seed, directory: try workbench.directory("killed"), bytesMin: 0, walBytesMin: 0),
            try await LogSample.closed(seed: seed, directory: try workbench.directory("closed"), bytesMin: 0),
        ]
    }

    private func expectHeld(_ tally: FlipProof.Tally, tried count: Int? = nil, _ work: String) {
        #expect(Array(tally.failures.prefix(3)) == [], "seed \(seed)")
        if let count { #expect(tally[work] == count) } else { #expect(tally[work] > 0) }
    }

    @Test("a turned bit is refused, found, or changes nothing that is read", arguments: [LogImage.File.log, .wal, .mark])
    func flips(file: LogImage.File) async throws {
        let workbench = try FlipProof.Workbench(small: true)
        defer { workbench.remove() }
        let moments = try await moments(workbench).filter { $0.image.byteCount(file) > 0 }
        var random = SeededGenerator(seed: seed)
        for moment in moments {
            let flips = FlipProof.flips(of: moment, file, sample: 40, using: &random)
            expectHeld(await workbench.run(flips, "flips"), tried: 40, "flips")
        }
    }

    /// The header of a row of `bodies`: five bytes long, position and slot NULL, and a blob, whose type takes two bytes. With the
    /// highest bit of either NULL turned, what stands behind it is read as one number with it, and the body seems not to be there.
    @Test("a row whose header was damaged is not read as one whose bytes were erased")
    func headers() async throws {
        let workbench = try FlipProof.Workbench(small: true)
        defer { workbench.remove() }
        let moment = try await moments(workbench)[1]
        let log = try #require(moment.image[.log])
        let headers = log.indices.dropLast(4).filter { at in
            log[at] == 5 && log[at + 1] == 0 && log[at + 2] == 0 && log[at + 3] > 0x80 && log[at + 4] < 0x80
        }
        #expect(headers.count >= moment.recorded.events.count, "seed \(seed)")
        let damages = headers.flatMap { at in
            [at + 1, at + 2].map { byte in
                var image = moment.image
                image.flip(byte * 8 + 7, of: .log)
                return FlipProof.Damage(name: "bit \(byte * 8 + 7) of \(LogImage.File.log)", image: image, recorded: moment.recorded)
            }
        }
        expectHeld(await workbench.run(FlipProof.Damages(damages), "headers"), tried: damages.count, "headers")
    }

    @Test("pages that were swapped or zeroed are refused, found, or change nothing that is read")
    func pages() async throws {
        let workbench = try FlipProof.Workbench(small: true)
        defer { workbench.remove() }
        var random = SeededGenerator(seed: seed)
        for moment in try await moments(workbench) {
            expectHeld(await workbench.run(FlipProof.swaps(in: moment, sample: 20, using: &random), "swaps"), tried: 20, "swaps")
            expectHeld(await workbench.run(FlipProof.zeroes(in: moment), "zeroes"), "zeroes")
        }
    }

    @Test("a file that was cut or removed is refused, found, or changes nothing that is read")
    func cuts() async throws {
        let workbench = try FlipProof.Workbench(small: true)
        defer { workbench.remove() }
        var random = SeededGenerator(seed: seed)
        for moment in try await moments(workbench) {
            expectHeld(await workbench.run(FlipProof.cuts(of: moment, sample: 20, using: &random), "cuts"), tried: 20, "cuts")
        }
    }

    @Test("an older copy of one or two of the files is never served as if it were whole")
    func oldCopies() async throws {
        let workbench = try FlipProof.Workbench(small: true)
        defer { workbench.remove() }
        let moments = try await LogSample.moments(seed: seed, directory: try workbench.directory("moments"), rounds: 2)
        var random = SeededGenerator(seed: seed)
        let copies = FlipProof.oldCopies(among: moments, sample: 60, using: &random)
        expectHeld(await workbench.run(copies, "copies"), tried: 60, "copies")
    }

    @Test("the program says of a turned bit what the store says: status, and JSON that names the problem")
    func program() async throws {
        guard let program = Program.built else { return TestFiles.note("skipped: no program was built to turn bits under") }
        let workbench = try FlipProof.Workbench(small: true)
        defer { workbench.remove() }
        var random = SeededGenerator(seed: seed)
        let flips = FlipProof.programFlips(of: try await moments(workbench), count: 8, using: &random)
        expectHeld(await workbench.run(flips, "flips", by: program), tried: 8, "flips")
    }
}
