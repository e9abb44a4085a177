package import ATProto
package import Keys

/// A signed token in its compact form (RFC 7515, RFC 7519): parsed, and not yet believed in anything.
///
/// JSON with a key twice, with fractions or beyond 53 bits is refused, and so is base64url that is not the one text of its bytes:
/// one token has one reading.
package struct JSONWebToken: Sendable {
    package let header: Value
    package let claims: Value
    /// What the signature covers: the first two parts with the dot between them.
    package let signingInput: [UInt8]
    /// r ‖ s of the two curves; whatever other algorithms have.
    package let signature: [UInt8]

    /// Longer texts are refused before any work. Tokens of the field have 300 to 1,500 bytes.
    package static let bytesMax = 8192

    private static let limits = DecodingLimits(bytesMax: bytesMax, depthMax: 8, countMax: 256, keyBytesMax: 256)

    /// - Parameter known: what a header is, by its text, where that was parsed before.
    package init(_ text: some StringProtocol, header known: (ArraySlice<UInt8>) -> Value? = { _ in nil }) throws(TokenError) {
        let bytes = Array(text.utf8)
        guard bytes.count <= Self.bytesMax else { throw .malformed("a token has at most \(Self.bytesMax) bytes") }
        let parts = bytes.split(separator: UInt8(ascii: "."), maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count == 3, !parts[0].isEmpty, !parts[1].isEmpty else { throw .malformed("a token has three parts") }
        header = if let header = known(parts[0]) { header } else { try Self.object(parts[0], "header") }
        claims = try Self.object(parts[1], "claims")
        do { signature = try Base64URL.decode(utf8: parts[2]) } catch { throw .malformed("the signature is not base64url") }
        signingInput = Array(bytes[..<parts[1].endIndex])
        // RFC 7515, section 4.1.11: what is said to be critical must be understood, and nothing of it is.
        guard header["crit"] == nil else { throw .malformed("the header names critical extensions that are not known here") }
    }

    private static func object(_ part: ArraySlice<UInt8>, _ name: String) throws(TokenError) -> Value {
        let bytes: [UInt8]
        do { bytes = try Base64URL.decode(utf8: part) } catch { throw .malformed("the \(name) is not base64url") }
        guard let value = try? DataModelJSON.decodePlain(bytes, limits: limits), case .map = value else {
            throw .malformed("the \(name) is not a JSON object")
        }
        return value
    }

    package var algorithm: String? { header["alg"]?.stringValue }
    package var type: String? { header["typ"]?.stringValue?.lowercased() }
    package var keyID: String? { header["kid"]?.stringValue }

    package func text(_ claim: String) -> String? { claims[claim]?.stringValue }
    /// Seconds since 1970 (NumericDate); nil where the claim is absent or no whole number.
    package func seconds(_ claim: String) -> Int64? { claims[claim]?.integerValue }

    /// Whether `key` made the signature by the algorithm that the header names. RFC 7518 asks for no low s, and browsers and public
    /// servers give a high one half of the time; what a token does once hangs on its `jti`, which no second form of a signature changes.
    package func isSigned(by key: PublicKey) -> Bool {
        algorithm == key.curve.algorithm && key.verifies(signature, of: signingInput, allowHighS: true)
    }
}

/// Why a token proves nothing. The text goes to the caller: it says nothing that the caller did not send.
package enum TokenError: Error, Hashable, Sendable {
    case malformed(String)
    /// Its time has passed, or has not come.
    case expired(String)
    /// It is for somebody or something else: audience, method, address, key.
    case mismatched(String)
    case badSignature
    /// Signed with a secret that only its issuer can check.
    case symmetric(algorithm: String)
    case replayed

    package var message: String {
        switch self {
        case .malformed(let text), .expired(let text), .mismatched(let text): text
        case .badSignature: "Invalid signature"
        case .symmetric(let algorithm):
            "Tokens signed with \(algorithm) can be verified by nobody but their issuer; "
                + "use an inter-service token instead (com.atproto.server.getServiceAuth on your PDS)"
        case .replayed: "This token was used before; make a new one for each request"
        }
    }
}
