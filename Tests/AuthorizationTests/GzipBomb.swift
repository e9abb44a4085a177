/// A gzip stream that expands about 160 times: one byte, and then "the same 258 bytes again" in 13 bits each (RFC 1951, fixed codes).
enum GzipBomb {
    static func bytes(expandingTo count: Int) -> [UInt8] {
        var bits = BitWriter()
        bits.write(1, count: 1)  // the last block
        bits.write(1, count: 2)  // with fixed codes
        bits.writeCode(0b0011_0000, count: 8)  // literal 0
        for _ in 0..<count / 258 {
            bits.writeCode(0b1100_0101, count: 8)  // length 258
            bits.writeCode(0, count: 5)  // distance 1
        }
        bits.writeCode(0, count: 7)  // end of block
        // No checksum of what comes out is right: whoever reads that far has read too far.
        return [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF] + bits.bytes + [UInt8](repeating: 0, count: 8)
    }

    private struct BitWriter {
        private(set) var bytes: [UInt8] = []
        private var used = 8

        /// The lowest bit first.
        mutating func write(_ value: Int, count: Int) {
            for bit in 0..<count {
                if used == 8 {
                    bytes.append(0)
                    used = 0
                }
                bytes[bytes.count - 1] |= UInt8(value >> bit & 1) << UInt8(used)
                used += 1
            }
        }

        /// Huffman codes are written from the highest bit.
        mutating func writeCode(_ code: Int, count: Int) {
            for bit in (0..<count).reversed() { write(code >> bit & 1, count: 1) }
        }
    }
}
