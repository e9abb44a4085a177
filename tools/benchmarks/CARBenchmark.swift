import ATProto
import Foundation
import Glibc
import Simulation

/// How fast repositories are written, read and verified, and how much memory a big one takes. The targets: verification (hashes, walk,
/// records, signature) of 300,000 records a second on one core, and 300 MB for a file of 1 GB in any order of blocks.
enum CARBenchmark {
    /// Pieces over a repository of 100,000 records; operations are records, or blocks where the name says so.
    static func pieces(seed: UInt64, records: Int = 100_000) throws -> [BenchmarkSuite.Piece] {
        let sample = try RepoSample(records: records, seed: seed)
        let blocks = sample.blocks
        var random = SeededGenerator(seed: seed)
        let streamable = sample.car(blocks)
        let shuffled = sample.car(blocks.shuffled(using: &random))
        return [
            { [try Timing.of("CAR verify, streamable order, records", operations: records) { try verify(streamable, sample) }] },
            { [try Timing.of("CAR verify, random order, records", operations: records) { try verify(shuffled, sample) }] },
            { [try Timing.of("CAR read with hashes, blocks", operations: blocks.count) { try read(streamable) }] },
            { [Timing.of("CAR write, blocks", operations: blocks.count) { sample.car(blocks).count }] },
        ]
    }

    /// The bytes come in the pieces that the program reads a file in.
    private static func verify(_ file: [UInt8], _ sample: RepoSample) throws -> RepoReport {
        var verifier = RepoVerifier(key: sample.key.publicKey)
        try file.withUnsafeBytes { file in
            var offset = 0
            while offset < file.count {
                let end = min(file.count, offset + (256 << 10))
                try verifier.push(UnsafeRawBufferPointer(rebasing: file[offset..<end]))
                offset = end
            }
        }
        var step = try verifier.finish()
        while true {
            switch step {
            case .read(let offset, let count): step = try verifier.answer(Array(file[offset..<offset + count]))
            case .done(let report):
                guard report.records == sample.records else { throw Failure(message: "\(report.records) records of \(sample.records)") }
                return report
            }
        }
    }

    private static func read(_ file: [UInt8]) throws -> Int {
        var reader = CARReader()
        var bytes = 0
        var offset = 0
        while offset < file.count {
            let end = min(file.count, offset + (256 << 10))
            reader.push(Array(file[offset..<end]))
            while let block = try reader.next() { bytes += block.bytes.count }
            offset = end
        }
        try reader.finish()
        return bytes
    }

    struct Failure: Error, CustomStringConvertible {
        let message: String
        var description: String { message }
    }
}

/// One big file, verified by the program in a process of its own, so that its peak memory is the verifier's alone.
struct LargeCAR: Sendable {
    let records: Int
    let bytes: Int
    let seconds: Double
    let processorSeconds: Double
    /// Of the program, in bytes.
    let peakMemory: Int

    /// - Parameter path: where the file is written; it is left there.
    /// - Parameter program: the built `stratos`; it stands beside this program.
    static func run(path: String, bytes: Int = 1_000_000_000, seed: UInt64) throws -> LargeCAR {
        let perRecord = try RepoSample(records: 4000, seed: seed).car().count / 4000
        let records = bytes / perRecord + 1
        let written = try write(RepoSample(records: records, seed: seed), to: path, seed: seed)
        let output = open(path + ".json", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard output >= 0 else { throw CARBenchmark.Failure(message: "\(path).json: \(String(cString: strerror(errno)))") }
        defer { close(output) }
        let wall = Clocks.wall()
        let usage = try ChildProcess(ChildProcess.path(of: "stratos"), ["repo", "verify", path, "--json"], output: output).wait()
        let seconds = Clocks.wall() - wall
        let report = try DataModelJSON.decode([UInt8](Data(contentsOf: URL(filePath: path + ".json"))))
        guard report["records"]?.integerValue == Int64(records) else {
            throw CARBenchmark.Failure(message: "stratos repo verify said \(report)")
        }
        return LargeCAR(
            records: records, bytes: written, seconds: seconds, processorSeconds: usage.processorSeconds,
            peakMemory: usage.peakMemory)
    }

    /// Writes every block once, in an order by chance.
    private static func write(_ sample: RepoSample, to path: String, seed: UInt64) throws -> Int {
        var random = SeededGenerator(seed: seed)
        let order = (0..<UInt32(sample.sections.count)).shuffled(using: &random)
        try Data().write(to: URL(filePath: path))
        let file = try FileHandle(forWritingTo: URL(filePath: path))
        var buffer: [UInt8] = []
        var written = 0
        CARWriter.encodeHeader(roots: [sample.commit.cid], into: &buffer)
        for number in order {
            let block = sample.block(sample.sections[Int(number)])
            CARWriter.encodeBlock(block.bytes, cid: block.cid, into: &buffer)
            guard buffer.count >= 4 << 20 else { continue }
            try file.write(contentsOf: buffer)
            written += buffer.count
            buffer.removeAll(keepingCapacity: true)
        }
        try file.write(contentsOf: buffer)
        try file.close()
        return written + buffer.count
    }
}

extension CARBenchmark {
    /// Suite `car-large`.
    static let large = BenchmarkSuite(
        name: "car-large", summary: "a repository of 1 GB in a CAR in random order, verified by `stratos repo verify`; refused above 300 MB"
    ) { request in
        [
            {
                let path = request.directory + "/large.car"
                let run = try LargeCAR.run(path: path, seed: request.seed)
                let text = "car-large: \(run.records) records, \(run.bytes) bytes, peak memory \(run.peakMemory / 1_000_000) MB\n"
                FileHandle.standardError.write(Data(text.utf8))
                guard run.peakMemory <= 300_000_000 else { throw Failure(message: "more than 300 MB: \(text)") }
                return [
                    Timing(
                        name: "stratos repo verify, 1 GB, random order, records", operations: run.records, wallSeconds: run.seconds,
                        processorSeconds: run.processorSeconds)
                ]
            }
        ]
    }
}
