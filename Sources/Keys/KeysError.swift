/// Why a key, a signature's key or a key file was refused.
public enum KeysError: Error, Equatable {
    /// The text is not the one canonical form of what it should be; the reason never holds the text itself.
    case malformed(String)
    /// The text is well-formed and names a kind of key that is not one of ours.
    case unsupported(String)
    /// The bytes are not a point of the curve.
    case invalidPoint(Curve)
    /// The private number is not in 1…n−1.
    case invalidScalar(Curve)
    /// The key file cannot be used: tell the operator, who must act.
    case file(path: String, KeyFileProblem)
    /// The C library refused; only memory can be the reason.
    case library(operation: String)
}

/// What is wrong with a key file.
public enum KeyFileProblem: Error, Equatable {
    case missing
    /// Nothing is ever written over an existing file.
    case exists
    case symbolicLink
    case notAFile
    /// Others than its owner may read or change it; the mode's low nine bits.
    case openToOthers(mode: UInt32)
    /// A key file is 32 bytes.
    case wrongLength(Int)
    case system(operation: String, code: Int32)
}
