import ATProto
import Foundation
import Simulation

/// Measures other people's libraries on our records, in the same run, so that both meet the same machine.
struct Peers {
    private let python: String
    private let script: String
    private let records: String
    private let rounds: Int

    /// Writes `records`, which the script goes through `rounds` times, for the script to read. Nil without a Python that has the libraries: then the table has no peers.
    init?(_ request: BenchmarkRequest, records: [[UInt8]], rounds: Int) throws {
        guard let python = request.python else { return nil }
        self.python = python
        self.script = "tools/benchmarks/peers.py"
        self.rounds = rounds
        self.records = request.directory + "/records"
        var file: [UInt8] = []
        for record in records {
            withUnsafeBytes(of: UInt32(record.count).bigEndian) { file.append(contentsOf: $0) }
            file.append(contentsOf: record)
        }
        try Data(file).write(to: URL(filePath: self.records))
    }

    /// One repetition: the script prints a JSON line for each thing it measured, by its own clocks.
    func measure() throws -> [Timing] {
        let process = Process()
        process.executableURL = URL(filePath: python)
        process.arguments = [script, records, String(rounds)]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let text = String(decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw PeersError.failed(script: script, status: process.terminationStatus) }
        return try text.split(separator: "\n").map { line in
            let timing = try JSONDecoder().decode(Line.self, from: Data(line.utf8))
            return Timing(
                name: timing.name, operations: timing.operations, wallSeconds: timing.wallSeconds,
                processorSeconds: timing.processorSeconds)
        }
    }

    private struct Line: Decodable {
        var name: String
        var operations: Int
        var wallSeconds: Double
        var processorSeconds: Double
    }
}

enum PeersError: Error {
    case failed(script: String, status: Int32)
}
