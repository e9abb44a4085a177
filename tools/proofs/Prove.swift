import ArgumentParser
import Foundation
import Simulation

/// Runs one proof and prints one JSON line. Progress and counterexamples go to standard error.
@main
struct Prove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stratos-prove",
        abstract: "Runs one proof at its full size and prints one JSON line.",
        discussion: "Proofs:\n" + Catalogue.proofs.map { "  \($0.name): \($0.claim)" }.joined(separator: "\n"))

    @Argument(help: "Which proof.")
    var name: String

    @Option(help: "Run with this seed; without it, with a random one, which is printed.")
    var seed: UInt64?

    @Flag(help: "Run at the size of the test suite: seconds instead of minutes.")
    var small = false

    @Option(help: "Where the proof keeps its files. It is emptied afterwards unless the proof failed.")
    var dataDir = ".build-proofs"

    @Option(help: .hidden)
    var worker: String?

    func run() async throws {
        // The other half of the crash proof: a process that is started to be killed.
        if name == CrashWriters.name { return try await CrashWriters.run(directory: dataDir, seed: seed ?? 1) }
        guard let proof = Catalogue.proofs.first(where: { $0.name == name }) else {
            throw ValidationError("no proof is called \(name); there are: \(Catalogue.proofs.map(\.name).joined(separator: ", "))")
        }
        if let worker {
            guard let work = proof.work else { throw ValidationError("\(name) has no worker") }
            return try await work(worker)
        }
        let seed = seed ?? UInt64.random(in: 1...UInt64(UInt32.max))
        let directory = URL(filePath: dataDir).appending(path: "\(name)-\(seed)")
        try? FileManager.default.removeItem(at: directory)  // best effort: an earlier run with this seed may have left it
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)

        let environment = Environment(directory: directory.path)
        let wall = Clocks.wall()
        let processor = Clocks.processor()
        let result = try await proof.run(ProofRequest(seed: seed, small: small, directory: directory.path))
        print(line(for: result, seed: seed, environment, seconds: Clocks.wall() - wall, processor: Clocks.processor() - processor))

        guard result.failures.isEmpty else {
            for failure in result.failures.prefix(20) { report(failure) }
            report("the files of this run are left in \(directory.path)")
            throw ExitCode(1)
        }
        try FileManager.default.removeItem(at: directory)
    }

    private func line(
        for result: ProofResult, seed: UInt64, _ environment: Environment, seconds: Double, processor: Double
    ) -> JSONObject {
        var object = JSONObject()
        object["proof"] = .text(name)
        object["held"] = .text(result.failures.isEmpty ? "yes" : "no")
        object["seed"] = .integer(Int(seed))
        object["size"] = .text(small ? "small" : "full")
        var counts = JSONObject()
        for (name, count) in result.counts { counts[name] = .integer(count) }
        object["counts"] = .object(counts)
        object["failures"] = .integer(result.failures.count)
        object["seconds"] = .decimal(seconds, places: 2)
        object["cpuSeconds"] = .decimal(processor, places: 2)
        object["peakMemoryBytes"] = .integer(Environment.peakMemory())
        environment.write(into: &object)
        return object
    }

    private func report(_ message: String) {
        FileHandle.standardError.write(Data((message + "\n").utf8))
    }
}
