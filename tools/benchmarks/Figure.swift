import Foundation
import Simulation

/// One figure of the whole program: a rate, a latency, a size, with the target that it is held to.
struct Figure: Sendable {
    enum Unit: String, Sendable {
        case perSecond = "/s"
        case milliseconds = "ms"
        case microseconds = "µs"
        case bytes = "B"
        case megabytes = "MB"
        case percent = "%"
        /// Processor seconds a second: 1.00 is one busy core.
        case cores = "cores"
        case count = ""
        case times = "×"
    }

    enum Target: Sendable {
        case atLeast(Double)
        case atMost(Double)
    }

    let name: String
    let value: Double
    let unit: Unit
    var target: Target?
    /// A miss is a fault of the program and not of the machine, so the run fails.
    var isRequired = false

    init(_ name: String, _ value: Double, _ unit: Unit, _ target: Target? = nil, isRequired: Bool = false) {
        self.name = name
        self.value = value
        self.unit = unit
        self.target = target
        self.isRequired = isRequired
    }
}

/// The figures of all repetitions, by name in the order of first appearance.
struct FigureTable {
    struct Row {
        let subject: String
        let figures: [Figure]

        var name: String { figures[0].name }
        var unit: Figure.Unit { figures[0].unit }
        var values: Table.Spread { Table.Spread(figures.map(\.value)) }

        /// Whether the median meets the target; nil without one.
        var isMet: Bool? {
            switch figures[0].target {
            case .atLeast(let bound): values.median >= bound
            case .atMost(let bound): values.median <= bound
            case nil: nil
            }
        }
    }

    private(set) var rows: [Row] = []

    mutating func add(_ figure: Figure, subject: String) {
        if let index = rows.firstIndex(where: { $0.subject == subject && $0.name == figure.name }) {
            rows[index] = Row(subject: subject, figures: rows[index].figures + [figure])
        } else {
            rows.append(Row(subject: subject, figures: [figure]))
        }
    }

    /// Rows whose target must be met on any machine, and is not.
    var failures: [Row] { rows.filter { $0.figures[0].isRequired && $0.isMet == false } }

    /// - Parameter last: medians of the run before, by subject and name; empty where there was none.
    func text(beside last: [String: Double]) -> String {
        var lines: [[String]] = []
        var subject = ""
        for row in rows {
            if row.subject != subject { lines.append([row.subject, "", "", "", "", "", ""]) }
            subject = row.subject
            let spread = row.values
            lines.append([
                "  " + row.name, Self.text(spread.median, row.unit),
                row.figures.count > 1 ? "\(Self.text(spread.lowest, row.unit)) … \(Self.text(spread.highest, row.unit))" : "",
                row.figures[0].target.map { Self.text($0, row.unit) } ?? "", row.isMet.map { $0 ? "met" : "NOT MET" } ?? "",
                last[row.subject + "/" + row.name].map { Self.text($0, row.unit) } ?? "",
            ])
        }
        return Table.aligned([["", "median", "lowest … highest", "target", "", "last run"]] + lines)
    }

    var json: JSONObject.Member {
        .list(
            rows.map { row in
                var object = JSONObject()
                object["subject"] = .text(row.subject)
                object["name"] = .text(row.name)
                object["unit"] = .text(row.unit.rawValue)
                object["value"] = .decimal(row.values.median, places: 3)
                object["lowest"] = .decimal(row.values.lowest, places: 3)
                object["highest"] = .decimal(row.values.highest, places: 3)
                switch row.figures[0].target {
                case .atLeast(let bound): object["atLeast"] = .decimal(bound, places: 3)
                case .atMost(let bound): object["atMost"] = .decimal(bound, places: 3)
                case nil: break
                }
                if let isMet = row.isMet { object["met"] = .text(isMet ? "yes" : "no") }
                return .object(object)
            })
    }

    private static func text(_ target: Figure.Target, _ unit: Figure.Unit) -> String {
        switch target {
        case .atLeast(let bound): "≥ " + text(bound, unit)
        case .atMost(let bound): "≤ " + text(bound, unit)
        }
    }

    private static func text(_ value: Double, _ unit: Figure.Unit) -> String {
        let number =
            switch abs(value) {
            case 1000...: grouped(value)
            case 100...: String(format: "%.0f", value)
            case 10...: String(format: "%.1f", value)
            default: String(format: "%.2f", value)
            }
        return unit.rawValue.isEmpty ? number : "\(number) \(unit.rawValue)"
    }

    private static func grouped(_ value: Double) -> String {
        var digits = String(Int(value.rounded()))
        var groups: [String] = []
        while digits.count > 3 {
            groups.insert(String(digits.suffix(3)), at: 0)
            digits.removeLast(3)
        }
        return ([digits] + groups).joined(separator: ",")
    }
}
