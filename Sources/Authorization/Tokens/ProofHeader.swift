import ATProto
import Keys
import Synchronization

/// The header of a proof of possession: its type and its key. A client sends the same one with each of its requests.
package struct ProofHeader: Sendable {
    /// As it was sent: base64url, the first part of the proof.
    let text: [UInt8]
    let value: Value
    let key: PublicKey
    /// RFC 7638, of the key as it came.
    let thumbprint: String

    init(_ value: Value, text: ArraySlice<UInt8>) throws(TokenError) {
        guard value["typ"]?.stringValue?.lowercased() == "dpop+jwt" else { throw .malformed("a DPoP proof has the type dpop+jwt") }
        let jwk = try Self.jwk(in: value)
        do { key = try PublicKey(jwk: jwk) } catch { throw Self.badKey }
        thumbprint = jwk.thumbprint
        self.value = value
        self.text = Array(text)
    }

    /// The public key in the header. A private one beside it would mean that the client gave its key away.
    private static func jwk(in header: Value) throws(TokenError) -> JWK {
        guard let jwk = header["jwk"], case .map = jwk else { throw .malformed("a DPoP proof carries its key as jwk") }
        guard jwk["d"] == nil, jwk["k"] == nil else { throw .malformed("a DPoP proof carries a public key, never a private one") }
        do throws(KeysError) {
            return try JWK(
                kty: jwk["kty"]?.stringValue ?? "", crv: jwk["crv"]?.stringValue ?? "", x: jwk["x"]?.stringValue ?? "",
                y: jwk["y"]?.stringValue ?? "")
        } catch {
            throw badKey
        }
    }

    private static let badKey = TokenError.malformed("the key of a DPoP proof must be one of P-256 or secp256k1")
}

/// Headers of the proofs that members sent lately, parsed: to read one and to find its key on the curve takes half as long as to verify
/// a signature.
///
/// What is remembered can never change: that a text is this header with this key. Whether the key signed a proof is judged each time.
/// Only proofs that were accepted with a member's token leave their header here, so strangers drive out none. It is bounded.
package final class ProofHeaders: Sendable {
    /// A header in memory takes about so many times its text: the text, its values, and the key.
    private static let bytesPerByte = 6

    private let headers: Mutex<BoundedMap<[UInt8], ProofHeader>>

    package init(countMax: Int = 8192, bytesMax: Int = 16 << 20) {
        headers = Mutex(BoundedMap(entriesMax: countMax, bytesMax: bytesMax))
    }

    package var count: Int { headers.withLock { $0.count } }

    func find(_ text: ArraySlice<UInt8>) -> ProofHeader? {
        let text = Array(text)
        return headers.withLock { $0[text] }
    }

    /// For the header of a proof that was accepted.
    package func remember(_ header: ProofHeader) {
        headers.withLock { headers in
            if headers[header.text] == nil { headers.set(header.text, header, bytes: Self.bytesPerByte * header.text.count) }
        }
    }
}
