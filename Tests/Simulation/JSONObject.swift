/// One JSON object with its members in the order they were set, for lines that people and scripts both read.
///
/// Foundation's encoder would sort or shuffle the members, and `DataModelJSON` knows no fractions.
package struct JSONObject: Sendable, CustomStringConvertible {
    package indirect enum Member: Sendable {
        case null
        case integer(Int)
        case decimal(Double, places: Int)
        case text(String)
        case list([Member])
        case object(JSONObject)
    }

    private var members: [(name: String, value: Member)] = []

    package init() {}

    package subscript(name: String) -> Member? {
        get { members.first { $0.name == name }?.value }
        set {
            members.removeAll { $0.name == name }
            if let newValue { members.append((name, newValue)) }
        }
    }

    package var description: String {
        "{" + members.map { "\(Self.quoted($0.name)): \(Self.text(of: $0.value))" }.joined(separator: ", ") + "}"
    }

    private static func text(of member: Member) -> String {
        switch member {
        case .null: "null"
        case .integer(let number): String(number)
        case .decimal(let number, let places): decimal(number, places: places)
        case .text(let text): quoted(text)
        case .list(let list): "[" + list.map(text).joined(separator: ", ") + "]"
        case .object(let object): object.description
        }
    }

    /// `places` digits after the point, without a locale. JSON has no infinity, so one becomes null.
    private static func decimal(_ number: Double, places: Int) -> String {
        guard number.isFinite, number.magnitude < 1e15 else { return "null" }
        let scale = (0..<places).reduce(1) { scale, _ in scale * 10 }
        let scaled = Int((number.magnitude * Double(scale)).rounded())
        let fraction = String(scaled % scale)
        let point = places == 0 ? "" : "." + String(repeating: "0", count: places - fraction.count) + fraction
        return (number < 0 && scaled != 0 ? "-" : "") + String(scaled / scale) + point
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
