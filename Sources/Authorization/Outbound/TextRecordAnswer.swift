/// The TXT records in a DNS message (RFC 1035, section 4). It comes from the network: every length in it is checked before it is used.
enum TextRecordAnswer {
    /// The longest answer that is read; what is longer is no answer.
    static let bytesMax = 16 << 10

    static func records(in message: ArraySlice<UInt8>) -> Result<[String], TextRecordsError> {
        var reader = MessageReader(message)
        do throws(TextRecordsError) { return .success(try reader.records()) } catch { return .failure(error) }
    }
}

private struct MessageReader {
    private var rest: ArraySlice<UInt8>

    init(_ message: ArraySlice<UInt8>) { rest = message }

    mutating func records() throws(TextRecordsError) -> [String] {
        _ = try number()
        let flags = try number()
        // An answer (QR), not cut short (TC), with no error (RCODE).
        guard flags & 0x8000 != 0, flags & 0x0200 == 0, flags & 0x000F == 0 else { throw .malformed }
        let questions = try number()
        let answers = try number()
        _ = try bytes(4)
        for _ in 0..<questions {
            try skipName()
            _ = try bytes(4)
        }
        var records: [String] = []
        for _ in 0..<answers {
            try skipName()
            let type = try number()
            let `class` = try number()
            _ = try bytes(4)
            let data = try bytes(try number())
            // Aliases (CNAME) on the way to the records stand among them.
            guard type == 16, `class` == 1 else { continue }
            if let text = String(validating: try Self.joined(data), as: UTF8.self) { records.append(text) }
        }
        return records
    }

    /// The pieces of one record, each behind its length.
    private static func joined(_ data: ArraySlice<UInt8>) throws(TextRecordsError) -> [UInt8] {
        var (rest, text) = (data, [UInt8]())
        while let count = rest.popFirst() {
            guard rest.count >= Int(count) else { throw .malformed }
            text.append(contentsOf: rest.prefix(Int(count)))
            rest = rest.dropFirst(Int(count))
        }
        return text
    }

    /// A name ends with the root's empty label, or with a pointer to the rest of it, which nobody needs to follow here.
    private mutating func skipName() throws(TextRecordsError) {
        while true {
            let length = Int(try bytes(1).first!)
            switch length & 0xC0 {
            case 0xC0:
                _ = try bytes(1)
                return
            case 0:
                if length == 0 { return }
                _ = try bytes(length)
            default: throw .malformed
            }
        }
    }

    private mutating func number() throws(TextRecordsError) -> Int {
        let pair = try bytes(2)
        return Int(pair.first!) << 8 | Int(pair.last!)
    }

    private mutating func bytes(_ count: Int) throws(TextRecordsError) -> ArraySlice<UInt8> {
        guard rest.count >= count else { throw .malformed }
        defer { rest = rest.dropFirst(count) }
        return rest.prefix(count)
    }
}
