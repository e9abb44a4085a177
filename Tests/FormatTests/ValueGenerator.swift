import ATProto
import Simulation

extension SeededGenerator {
    /// A value that both encodings can hold, with the edges of each kind more often than chance would have them.
    mutating func value(depth: Int = 0) -> Value {
        switch Int.random(in: 0..<(depth < 4 ? 10 : 7), using: &self) {
        case 0: .null
        case 1: .bool(Bool.random(using: &self))
        case 2: .integer(integer())
        case 3, 4: .string(text(countMax: 40))
        case 5: .bytes(bytes(Int.random(in: 0...40, using: &self)))
        case 6: .link(cid())
        case 7: .array((0..<Int.random(in: 0...6, using: &self)).map { _ in value(depth: depth + 1) })
        default: .map(map(depth: depth))
        }
    }

    mutating func map(depth: Int = 0) -> ValueMap {
        var map = ValueMap()
        for _ in 0..<Int.random(in: 0...(depth == 0 ? 50 : 6), using: &self) { map["k" + text(countMax: 12)] = value(depth: depth + 1) }
        return map
    }

    mutating func cid() -> CID {
        CID(codec: Bool.random(using: &self) ? .raw : .dagCBOR, digest: bytes(32))
    }

    mutating func text(countMax: Int) -> String {
        let alphabet: [Unicode.Scalar] = [
            "a", "b", "z", "0", "~", "é", "\u{301}", "⽘", "😀", "\"", "\\", "/", "\n", "\u{0}", "\u{1F}", "\u{7F}", "\u{FFFF}",
        ]
        var text = String.UnicodeScalarView()
        for _ in 0..<Int.random(in: 0...countMax, using: &self) {
            text.append(Bool.random(using: &self) ? "c" : alphabet.randomElement(using: &self)!)
        }
        return String(text)
    }

    private mutating func integer() -> Int64 {
        let edges: [Int64] = [0, 23, 24, 255, 256, 65535, 65536, 1 << 32 - 1, 1 << 32, 1 << 53 - 1]
        let magnitude = Bool.random(using: &self) ? edges.randomElement(using: &self)! : Int64.random(in: 0..<(1 << 53), using: &self)
        return Bool.random(using: &self) ? magnitude : -magnitude
    }
}
