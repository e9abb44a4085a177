/// Cuts published JSON files into the texts of their parts, so that a part which our decoder must refuse can still be handed to it.
///
/// Trusts its input: the files are well formed.
enum RawJSON {
    /// The texts of an array's items.
    static func items(of array: ArraySlice<UInt8>) -> [ArraySlice<UInt8>] {
        split(array).map(trimmed)
    }

    /// The texts of an object's values by key. Keys have no escapes.
    static func members(of object: ArraySlice<UInt8>) -> [String: ArraySlice<UInt8>] {
        Dictionary(
            uniqueKeysWithValues: split(object).map { member in
                let member = trimmed(member)
                let end = member.dropFirst().firstIndex(of: UInt8(ascii: "\""))!
                let colon = member[end...].firstIndex(of: UInt8(ascii: ":"))!
                return (String(decoding: member[(member.startIndex + 1)..<end], as: UTF8.self), trimmed(member[(colon + 1)...]))
            })
    }

    /// The contents of a string without escapes.
    static func string(_ text: ArraySlice<UInt8>) -> String { String(decoding: text.dropFirst().dropLast(), as: UTF8.self) }

    private static func trimmed(_ text: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var text = text.drop { $0 <= 0x20 }
        while let last = text.last, last <= 0x20 { text.removeLast() }
        return text
    }

    /// What is between the brackets, split at the commas of the first level.
    private static func split(_ container: ArraySlice<UInt8>) -> [ArraySlice<UInt8>] {
        let inside = trimmed(container).dropFirst().dropLast()
        var parts: [ArraySlice<UInt8>] = []
        var start = inside.startIndex
        var depth = 0
        var isInString = false
        var isEscaped = false
        for index in inside.indices {
            switch inside[index] {
            case _ where isEscaped: isEscaped = false
            case UInt8(ascii: "\\"): isEscaped = true
            case UInt8(ascii: "\""): isInString.toggle()
            case _ where isInString: break
            case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
            case UInt8(ascii: ",") where depth == 0:
                parts.append(inside[start..<index])
                start = index + 1
            default: break
            }
        }
        return trimmed(inside[start...]).isEmpty ? parts : parts + [inside[start...]]
    }
}
