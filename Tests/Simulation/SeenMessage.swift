package import ATProto

/// A message of a stream, taken apart by what stands in the wire contract (section 7.1) and not by the code that makes it.
package struct SeenMessage: Hashable, Sendable {
    package enum Failure: Error { case notAFrame([UInt8]) }

    /// `#commit`, `#enrollment`, `#info`; nil for an error.
    package let type: String?
    package let body: Value
    package let bytes: [UInt8]

    package init(_ bytes: [UInt8]) throws {
        self.bytes = bytes
        let header: Int
        if bytes.starts(with: [0xA1, 0x62, 0x6F, 0x70, 0x20]) {
            header = 5
            type = nil
        } else {
            guard bytes.count > 8, bytes.starts(with: [0xA2, 0x61, 0x74]), (0x61...0x77).contains(bytes[3]) else {
                throw Failure.notAFrame(bytes)
            }
            let end = 4 + Int(bytes[3] & 0x1F)
            guard bytes.count > end + 4, bytes[end..<end + 4].elementsEqual([0x62, 0x6F, 0x70, 0x01]) else {
                throw Failure.notAFrame(bytes)
            }
            type = String(decoding: bytes[4..<end], as: UTF8.self)
            header = end + 4
        }
        body = try DAGCBOR.decode(Array(bytes[header...]), limits: DecodingLimits(bytesMax: 8 << 20))
    }

    package var cursor: Int64? { body["seq"]?.integerValue }
    package var error: String? { type == nil ? body["error"]?.stringValue : nil }

    package struct Operation: Hashable, Sendable, CustomStringConvertible {
        package let action: String
        package let path: String
        package let cid: CID?
        package let record: Value?

        package var description: String { "\(action) \(path)" }
    }

    package var operations: [Operation] {
        (body["ops"]?.arrayValue ?? []).map { operation in
            Operation(
                action: operation["action"]?.stringValue ?? "", path: operation["path"]?.stringValue ?? "",
                cid: operation["cid"]?.linkValue, record: operation["record"])
        }
    }
}
