import ATProto

/// Something that may be used once: the identifier of a token under the key or the DID that made it.
///
/// A procedure's stands in the transaction of its event (`Append.use`) and in no body; it expires with the token.
package struct SingleUse: Hashable, Sendable {
    /// SHA-256 of the DAG-CBOR array `[issuer, identifier]`: 32 bytes.
    package let scope: [UInt8]
    /// Seconds since 1970 from which the token itself is refused for its age, so that nothing need be remembered.
    package let expires: Int64

    package init(issuer: String, identifier: String, expires: Int64) {
        self.init(scope: CID(hashing: DAGCBOR.encode([.string(issuer), .string(identifier)])).digest, expires: expires)
    }

    /// - Parameter scope: 32 bytes.
    package init(scope: [UInt8], expires: Int64) {
        precondition(scope.count == 32, "a scope is a SHA-256 digest")
        self.scope = scope
        self.expires = expires
    }
}
