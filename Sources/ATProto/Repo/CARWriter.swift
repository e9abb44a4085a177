/// Writes CARv1 (ipld.io/specs/transport/car/carv1): a header with the roots, then one section a block. It keeps nothing: the caller
/// hands the buffer on whenever it likes, so memory does not grow with the file.
public enum CARWriter {
    /// Appends the header: its length, then the DAG-CBOR map of `roots` and `version` 1.
    public static func encodeHeader(roots: [CID], into buffer: inout [UInt8]) {
        let header = DAGCBOR.encode(.map(["roots": .array(roots.map(Value.link)), "version": .integer(1)]))
        Varint.encode(UInt64(header.count), into: &buffer)
        buffer.append(contentsOf: header)
    }

    /// Appends one section: the length of CID and block together, the CID's 36 bytes, the block.
    /// - Parameter bytes: 0…2 MiB that hash to `cid`; the writer does not hash again.
    public static func encodeBlock(_ bytes: [UInt8], cid: CID, into buffer: inout [UInt8]) {
        precondition(bytes.count <= CARReader.Limits.standard.blockBytesMax, "a block that no reader of ours would take")
        Varint.encode(UInt64(CID.byteCount + bytes.count), into: &buffer)
        cid.append(to: &buffer)
        buffer.append(contentsOf: bytes)
    }

    /// The bytes that `encodeBlock` adds for a block of `count` bytes.
    public static func sectionBytes(ofBlock count: Int) -> Int {
        var size = CID.byteCount + count
        var rest = size
        repeat {
            size += 1
            rest >>= 7
        } while rest > 0
        return size
    }
}
