import Keys

/// What the suites of Keys share.
enum KeysSupport {
    /// - Parameter hex: digits in pairs; a literal or a fixture.
    static func bytes(_ hex: String) -> [UInt8] {
        let digits = hex.map { UInt8($0.hexDigitValue!) }
        return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }

    /// n, big-endian.
    static func order(_ curve: Curve) -> [UInt8] {
        switch curve {
        case .p256: bytes("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551")
        case .k256: bytes("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141")
        }
    }

    /// n − number, for 0 ≤ number ≤ n.
    static func negated(_ number: [UInt8], _ curve: Curve) -> [UInt8] {
        var result = order(curve)
        var borrow = 0
        for index in (0..<32).reversed() {
            let difference = Int(result[index]) - Int(number[index]) - borrow
            result[index] = UInt8(truncatingIfNeeded: difference)
            borrow = difference < 0 ? 1 : 0
        }
        return result
    }
}
