/// What a decoder of the data model accepts at most. Numbers from atproto.com/guides/data-validation.
public struct DecodingLimits: Hashable, Sendable {
    /// Length of the input in bytes.
    public var bytesMax: Int
    /// Containers (arrays and maps) within each other; 1 is a container that holds only scalars.
    public var depthMax: Int
    /// Items of one array, or entries of one map.
    public var countMax: Int
    /// Items and entries of all containers together: a value in memory takes up to some two hundred times the byte or two that it has in the input.
    public var totalMax: Int
    /// UTF-8 length of one map key.
    public var keyBytesMax: Int

    public init(bytesMax: Int, depthMax: Int = 32, countMax: Int = 131_072, totalMax: Int = 131_072, keyBytesMax: Int = 8192) {
        self.bytesMax = bytesMax
        self.depthMax = depthMax
        self.countMax = countMax
        self.totalMax = totalMax
        self.keyBytesMax = keyBytesMax
    }

    /// Any block of DAG-CBOR: 5 MiB.
    public static let standard = DecodingLimits(bytesMax: 5 << 20)
    /// A record in DAG-CBOR: 1,000,000 bytes.
    public static let record = DecodingLimits(bytesMax: 1_000_000)
    /// A record in JSON: 2 MiB.
    public static let json = DecodingLimits(bytesMax: 2 << 20)
}
