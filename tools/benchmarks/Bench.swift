import ArgumentParser
import Foundation
import Simulation

/// The program of `tools/bench`.
@main
struct BenchProgram: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stratos-bench",
        abstract: "Measures one suite, prints it beside the last run and keeps it as JSON.",
        discussion: "Suites:\n" + Catalogue.suites.map { "  \($0.name): \($0.summary)" }.joined(separator: "\n"),
        subcommands: [Bench.self, ConstantServer.self], defaultSubcommand: Bench.self)
}

/// Runs one suite: every piece once per repetition, in turn, so that a slow minute of the machine hits all of them alike.
struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "run", abstract: "Measures one suite.")

    @Argument(help: "Which suite.")
    var name: String

    @Option(help: "How often each piece is run; the table shows the median. Default: 5, and 1 for suites of the whole program.")
    var repetitions: Int?

    @Option(help: "Run only this subject of a suite of the whole program; may be given again.")
    var only: [String] = []

    @Flag(help: "Small data and short runs: shows that a suite works, and measures nothing.")
    var quick = false

    @Option(help: "The seed of the generated data.")
    var seed: UInt64 = 1

    @Option(help: "Where the JSON of this run is kept, and the last one looked for.")
    var out = "benchmarks-out"

    @Option(help: "Where the suite keeps its files while it runs.")
    var dataDir = ".build-bench-data"

    @Option(help: "A Python interpreter with the libraries of tools/fixtures/requirements.txt, to measure them in the same run.")
    var python: String?

    func validate() throws {
        guard repetitions ?? 1 >= 1 else { throw ValidationError("--repetitions must be 1 or more") }
    }

    func run() async throws {
        guard let suite = Catalogue.suites.first(where: { $0.name == name }) else {
            throw ValidationError("no suite is called \(name); there are: \(Catalogue.suites.map(\.name).joined(separator: ", "))")
        }
        let directory = URL(filePath: dataDir).appending(path: name)
        try? FileManager.default.removeItem(at: directory)  // best effort: an earlier run may have left it
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }  // best effort: the next run removes it

        let environment = Environment(directory: directory.path)
        let request = BenchmarkRequest(seed: seed, directory: directory.path, python: python, isQuick: quick)
        switch suite.content {
        case .pieces(let prepare):
            guard only.isEmpty else { throw ValidationError("the suite \(name) has no subjects") }
            try await run(try await prepare(request), environment)
        case .subjects(let subjects): try await run(try chosen(from: subjects), request, environment)
        }
    }

    private func chosen(from subjects: [BenchmarkSuite.Subject]) throws -> [BenchmarkSuite.Subject] {
        if let unknown = only.first(where: { name in !subjects.contains { $0.name == name } }) {
            throw ValidationError("\(name) has no subject \(unknown); there are: \(subjects.map(\.name).joined(separator: ", "))")
        }
        return only.isEmpty ? subjects : subjects.filter { only.contains($0.name) }
    }

    private func run(_ pieces: [BenchmarkSuite.Piece], _ environment: Environment) async throws {
        let repetitions = repetitions ?? 5
        var table = Table()
        for repetition in 1...repetitions {
            note("repetition \(repetition) of \(repetitions)")
            for piece in pieces { for timing in try await piece() { table.add(timing) } }
        }
        let reports = Reports(directory: URL(filePath: out), suite: name)
        let last = try reports.last()
        try keep("results", .list(table.rows.map { .object($0.json) }), repetitions, environment, reports)
        printHead(repetitions, environment)
        print(table.text(beside: last))
    }

    private func run(_ subjects: [BenchmarkSuite.Subject], _ request: BenchmarkRequest, _ environment: Environment) async throws {
        let repetitions = repetitions ?? 1
        var table = FigureTable()
        for repetition in 1...repetitions {
            for subject in subjects {
                note("repetition \(repetition) of \(repetitions): \(subject.name)")
                var request = request
                request.directory += "/\(subject.name)-\(repetition)"
                try FileManager.default.createDirectory(atPath: request.directory, withIntermediateDirectories: true)
                sync()  // What the one before has left to be written would be written meanwhile.
                for figure in try await subject.run(request) { table.add(figure, subject: subject.name) }
                try FileManager.default.removeItem(atPath: request.directory)
            }
        }
        let reports = Reports(directory: URL(filePath: out), suite: name)
        let last = try reports.lastFigures()
        if !quick { try keep("figures", table.json, repetitions, environment, reports) }
        printHead(repetitions, environment)
        print(table.text(beside: last))
        guard !table.failures.isEmpty else { return }
        for row in table.failures { note("failed: \(row.subject): \(row.name)") }
        throw ExitCode(1)
    }

    private func printHead(_ repetitions: Int, _ environment: Environment) {
        print("\(name), \(repetitions) repetitions in turn, \(environment.commit), \(environment.build), \(environment.machine)")
        print("\(environment.fileSystem), fdatasync \(environment.fdatasyncMicroseconds.map { "\(Int($0)) µs" } ?? "refused")")
    }

    private func keep(
        _ member: String, _ results: JSONObject.Member, _ repetitions: Int, _ environment: Environment, _ reports: Reports
    ) throws {
        let date = Date.now.ISO8601Format()
        var object = JSONObject()
        object["suite"] = .text(name)
        object["date"] = .text(date)
        object["seed"] = .integer(Int(seed))
        object["repetitions"] = .integer(repetitions)
        object["peakMemoryBytes"] = .integer(Environment.peakMemory())
        environment.write(into: &object)
        object[member] = results
        try reports.write(object, date: date)
    }

    private func note(_ message: String) {
        FileHandle.standardError.write(Data((message + "\n").utf8))
    }
}
