/// Base58 with Bitcoin's alphabet: one big number, and one `1` for each leading zero byte.
///
/// Time grows with the square of the length, so this is for keys, and both directions have a bound.
public enum Base58BTC {
    /// Longer input is refused before any work; keys need 35 bytes and 65.
    public static let bytesMax = 256

    private static let alphabet = [UInt8]("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".utf8)

    private static let values: [UInt8] = {
        var values = [UInt8](repeating: 0xff, count: 256)
        for (value, character) in alphabet.enumerated() { values[Int(character)] = UInt8(value) }
        return values
    }()

    /// - Parameter bytes: at most `bytesMax`.
    public static func encode(_ bytes: [UInt8]) -> String {
        precondition(bytes.count <= bytesMax, "base58 is for keys")
        var digits: [UInt8] = []  // least significant first
        for byte in bytes {
            var carry = Int(byte)
            for index in digits.indices {
                carry += Int(digits[index]) << 8
                digits[index] = UInt8(carry % 58)
                carry /= 58
            }
            while carry > 0 {
                digits.append(UInt8(carry % 58))
                carry /= 58
            }
        }
        let zeros = bytes.prefix { $0 == 0 }.count
        var text = [UInt8](repeating: alphabet[0], count: zeros)
        text.append(contentsOf: digits.reversed().lazy.map { alphabet[Int($0)] })
        return String(decoding: text, as: UTF8.self)
    }

    /// - Parameter countMax: how many bytes may come out, ≤ `bytesMax`.
    /// - Throws: `malformed` on a character outside the alphabet, or when the text stands for more bytes.
    public static func decode(_ text: String, countMax: Int = bytesMax) throws(KeysError) -> [UInt8] {
        precondition(countMax <= bytesMax, "base58 is for keys")
        // Each byte takes at most 1.37 characters.
        guard text.utf8.count <= countMax * 138 / 100 + 1 else { throw .malformed("base58 text is too long") }
        var bytes: [UInt8] = []  // least significant first
        var zeros = 0
        for character in text.utf8 {
            let value = values[Int(character)]
            guard value != 0xff else { throw .malformed("not a base58 character") }
            if value == 0 && bytes.isEmpty { zeros += 1 }
            var carry = Int(value)
            for index in bytes.indices {
                carry += Int(bytes[index]) * 58
                bytes[index] = UInt8(carry & 0xff)
                carry >>= 8
            }
            if carry > 0 { bytes.append(UInt8(carry)) }
        }
        guard zeros + bytes.count <= countMax else { throw .malformed("base58 text is too long") }
        return [UInt8](repeating: 0, count: zeros) + bytes.reversed()
    }
}
