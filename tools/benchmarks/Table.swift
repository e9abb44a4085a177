import Foundation
import Simulation

/// All repetitions of a suite, by name in the order of first appearance.
struct Table {
    private(set) var rows: [Row] = []

    mutating func add(_ timing: Timing) {
        if let index = rows.firstIndex(where: { $0.name == timing.name }) {
            rows[index].repetitions.append(timing)
        } else {
            rows.append(Row(name: timing.name, repetitions: [timing]))
        }
    }

    /// - Parameter last: rates per processor second of the run before, by name; empty where there was none.
    func text(beside last: [String: Double]) -> String {
        let header = ["", "operations", "per CPU second", "lowest", "highest", "per second", "last run", "change"]
        let lines = rows.map { row in
            let rate = row.rates.median
            let before = last[row.name]
            return [
                row.name, String(row.repetitions[0].operations), Self.rate(rate), Self.rate(row.rates.lowest), Self.rate(row.rates.highest),
                Self.rate(row.wallRates.median), before.map(Self.rate) ?? "-",
                before.map { String(format: "%+.0f %%", (rate / $0 - 1) * 100) } ?? "-",
            ]
        }
        return Self.aligned([header] + lines)
    }

    /// The first column to the left, the others to the right.
    static func aligned(_ lines: [[String]]) -> String {
        let widths = lines[0].indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
        return lines.map { line in
            zip(line, widths).enumerated().map { column, cell in
                let padding = String(repeating: " ", count: cell.1 - cell.0.count)
                return column == 0 ? cell.0 + padding : padding + cell.0
            }.joined(separator: "  ")
        }.joined(separator: "\n")
    }

    private static func rate(_ rate: Double) -> String {
        switch rate {
        case 1e6...: String(format: "%.2f M", rate / 1e6)
        case 1e3...: String(format: "%.1f k", rate / 1e3)
        default: String(format: "%.1f", rate)
        }
    }

    struct Row {
        var name: String
        var repetitions: [Timing]

        /// Operations per second of processor time.
        var rates: Spread { Spread(repetitions.map { Double($0.operations) / max($0.processorSeconds, 1e-9) }) }
        /// Operations per second of elapsed time.
        var wallRates: Spread { Spread(repetitions.map { Double($0.operations) / max($0.wallSeconds, 1e-9) }) }

        var json: JSONObject {
            var object = JSONObject()
            object["name"] = .text(name)
            object["operations"] = .integer(repetitions[0].operations)
            object["perCPUSecond"] = .decimal(rates.median, places: 1)
            object["lowest"] = .decimal(rates.lowest, places: 1)
            object["highest"] = .decimal(rates.highest, places: 1)
            object["perSecond"] = .decimal(wallRates.median, places: 1)
            return object
        }
    }

    struct Spread {
        let lowest: Double
        let median: Double
        let highest: Double

        /// - Parameter values: one or more.
        init(_ values: [Double]) {
            let sorted = values.sorted()
            (lowest, median, highest) = (sorted[0], sorted[sorted.count / 2], sorted[sorted.count - 1])
        }
    }
}

/// The kept runs of one suite: `NAME-DATE.json`, so that the names sort by date.
struct Reports {
    let directory: URL
    let suite: String

    /// Rates per processor second of the newest kept run, by name.
    func last() throws -> [String: Double] {
        guard let newest = try kept().last else { return [:] }
        let report = try JSONDecoder().decode(Report.self, from: Data(contentsOf: newest))
        return Dictionary(report.results.map { ($0.name, $0.perCPUSecond) }, uniquingKeysWith: { first, _ in first })
    }

    /// The newest median of each figure that kept runs have, by subject and name: a run may have been of some subjects only.
    func lastFigures() throws -> [String: Double] {
        var figures: [String: Double] = [:]
        for file in try kept() {
            let report = try JSONDecoder().decode(FigureReport.self, from: Data(contentsOf: file))
            for figure in report.figures { figures[figure.subject + "/" + figure.name] = figure.value }
        }
        return figures
    }

    /// The kept runs, the newest last.
    private func kept() throws -> [URL] {
        guard FileManager.default.fileExists(atPath: directory.path) else { return [] }
        return try FileManager.default.contentsOfDirectory(atPath: directory.path)
            .filter { $0.hasPrefix(suite + "-") && $0.hasSuffix(".json") }.sorted().map { directory.appending(path: $0) }
    }

    func write(_ report: JSONObject, date: String) throws {
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        let stamp = date.filter { $0 != ":" && $0 != "-" }
        try Data((report.description + "\n").utf8).write(to: directory.appending(path: "\(suite)-\(stamp).json"))
    }

    private struct Report: Decodable {
        struct Result: Decodable {
            var name: String
            var perCPUSecond: Double
        }
        var results: [Result]
    }

    private struct FigureReport: Decodable {
        struct Figure: Decodable {
            var subject: String
            var name: String
            var value: Double?
        }
        var figures: [Figure]
    }
}
