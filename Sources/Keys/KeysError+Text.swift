import Glibc

extension KeysError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .malformed(let reason): "malformed key text: \(reason)"
        case .unsupported(let reason): "unsupported key: \(reason)"
        case .invalidPoint(let curve): "not a point of \(curve.jwkName)"
        case .invalidScalar(let curve): "not a private key of \(curve.jwkName)"
        case .file(let path, let problem): "key file \(path): \(problem.text(path: path))"
        case .library(let operation): "the cryptographic library refused: \(operation)"
        }
    }
}

extension KeyFileProblem {
    /// What is wrong, and what to do about it.
    func text(path: String) -> String {
        switch self {
        case .missing: "it, or its directory, does not exist"
        case .exists: "it exists already and is not replaced; move it away first"
        case .symbolicLink: "it is a symbolic link; name the file itself"
        case .notAFile: "it is not a regular file"
        case .openToOthers(let mode):
            "its mode is \(Self.octal(mode)), so others may read or change it; if nobody has: chmod 600 \(Self.shellQuoted(path))"
        case .wrongLength(let count): "it has \(count) bytes; a private key has 32"
        case .system(let operation, let code): "\(operation): \(String(cString: strerror(code)))"
        }
    }

    private static func octal(_ mode: UInt32) -> String {
        let digits = String(mode, radix: 8)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }

    private static func shellQuoted(_ path: String) -> String {
        "'" + path.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
    }
}
