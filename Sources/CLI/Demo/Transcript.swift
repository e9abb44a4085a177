import ATProto
import Glibc

/// What the demo shows, for people: steps with their numbers, and under each what was asked and what was answered.
struct Transcript: ~Copyable {
    private var steps = 0
    private let isTerminal = isatty(STDOUT_FILENO) == 1
    private static let width = 110

    mutating func step(_ title: String) {
        steps += 1
        line("")
        line(emphasised("\(steps). \(title)"))
    }

    /// A sentence about what follows.
    func say(_ text: String) { line("   " + text) }

    /// A request as it was sent.
    func request(_ method: String, _ url: String, as caller: String? = nil, body: Value? = nil) {
        line("   → \(method) \(url)" + (caller.map { "   (\($0))" } ?? ""))
        if let body { show(body) }
    }

    /// A command of this program.
    func command(_ text: String) { line("   $ \(text)") }

    func answer(_ status: Int, _ detail: String) { line("   ← \(status) \(detail)") }

    func answer(_ status: Int, _ body: Value) {
        line("   ← \(status)")
        show(body)
    }

    func show(_ value: Value) {
        for text in Self.laidOut(value, indent: 0) { line("       " + text) }
    }

    /// A line as it is, to be copied.
    func verbatim(_ text: String) { line(text) }

    private func line(_ text: String) {
        do { try Output.print(text) } catch { Output.end(error, asJSON: false) }
    }

    private func emphasised(_ text: String) -> String { isTerminal ? "\u{1B}[1m\(text)\u{1B}[0m" : text }

    /// JSON on one line where it fits, else a member a line; long texts cut, since they are keys and signatures.
    private static func laidOut(_ value: Value, indent: Int) -> [String] {
        let flat = oneLine(value)
        guard flat.count + indent > width, case .map(let members) = value, !members.isEmpty else { return [flat] }
        var lines = ["{"]
        var left = members.count
        for (key, member) in members {
            left -= 1
            var inner = laidOut(member, indent: indent + 2)
            inner[0] = "\(quoted(key)): " + inner[0]
            inner[inner.count - 1] += left > 0 ? "," : ""
            lines += inner.map { "  " + $0 }
        }
        return lines + ["}"]
    }

    private static func oneLine(_ value: Value) -> String {
        switch value {
        case .map(let members): "{" + members.map { "\(quoted($0)): \(oneLine($1))" }.joined(separator: ", ") + "}"
        case .array(let items): "[" + items.map(oneLine).joined(separator: ", ") + "]"
        case .string(let text) where text.count > width: quoted(text.prefix(48) + "…")
        default: String(decoding: DataModelJSON.encode(value), as: UTF8.self)
        }
    }

    private static func quoted(_ text: some StringProtocol) -> String {
        String(decoding: DataModelJSON.encode(.string(String(text))), as: UTF8.self)
    }
}
