import ArgumentParser
import Foundation
import Simulation

/// Runs one suite: every piece once per repetition, in turn, so that a slow minute of the machine hits all of them alike.
@main
struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stratos-bench",
        abstract: "Measures one suite, prints it beside the last run and keeps it as JSON.",
        discussion: "Suites:\n" + Catalogue.suites.map { "  \($0.name): \($0.summary)" }.joined(separator: "\n"))

    @Argument(help: "Which suite.")
    var name: String

    @Option(help: "How often each piece is run; the table shows the median.")
    var repetitions = 5

    @Option(help: "The seed of the generated data.")
    var seed: UInt64 = 1

    @Option(help: "Where the JSON of this run is kept, and the last one looked for.")
    var out = "benchmarks-out"

    @Option(help: "Where the suite keeps its files while it runs.")
    var dataDir = ".build-bench-data"

    @Option(help: "A Python interpreter with the libraries of tools/fixtures/requirements.txt, to measure them in the same run.")
    var python: String?

    func validate() throws {
        guard repetitions >= 1 else { throw ValidationError("--repetitions must be 1 or more") }
    }

    func run() async throws {
        guard let suite = Catalogue.suites.first(where: { $0.name == name }) else {
            throw ValidationError("no suite is called \(name); there are: \(Catalogue.suites.map(\.name).joined(separator: ", "))")
        }
        let directory = URL(filePath: dataDir).appending(path: name)
        try? FileManager.default.removeItem(at: directory)  // best effort: an earlier run may have left it
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)

        let environment = Environment(directory: directory.path)
        let request = BenchmarkRequest(seed: seed, directory: directory.path, python: python)
        let pieces = try await suite.prepare(request)
        var table = Table()
        for repetition in 1...repetitions {
            note("repetition \(repetition) of \(repetitions)")
            for piece in pieces { for timing in try await piece() { table.add(timing) } }
        }

        let reports = Reports(directory: URL(filePath: out), suite: name)
        let last = try reports.last()
        let date = Date.now.ISO8601Format()
        try reports.write(json(of: table, environment: environment, date: date), date: date)
        print("\(name), \(repetitions) repetitions in turn, \(environment.commit), \(environment.build), \(environment.machine)")
        print("\(environment.fileSystem), fdatasync \(environment.fdatasyncMicroseconds.map { "\(Int($0)) µs" } ?? "refused")")
        print(table.text(beside: last))
        try FileManager.default.removeItem(at: directory)
    }

    private func json(of table: Table, environment: Environment, date: String) -> JSONObject {
        var object = JSONObject()
        object["suite"] = .text(name)
        object["date"] = .text(date)
        object["seed"] = .integer(Int(seed))
        object["repetitions"] = .integer(repetitions)
        object["peakMemoryBytes"] = .integer(Environment.peakMemory())
        environment.write(into: &object)
        object["results"] = .list(table.rows.map { .object($0.json) })
        return object
    }

    private func note(_ message: String) {
        FileHandle.standardError.write(Data((message + "\n").utf8))
    }
}
