internal import ATProto
internal import Crypto
package import Keys

/// Keeps what must not be read where it lies: AES-256-GCM under a key derived from the service's, for this alone. What was sealed for
/// one owner and purpose opens for no other, so rows cannot be exchanged either.
package struct Seal: Sendable {
    private let key: SymmetricKey
    private let random: @Sendable (Int) -> [UInt8]

    /// - Parameter random: bytes that nobody can guess and that do not come twice.
    package init(serviceKey: PrivateKey, random: @escaping @Sendable (Int) -> [UInt8]) {
        key = serviceKey.derived("stratos/oauth/1")
        self.random = random
    }

    /// - Returns: nonce, ciphertext and tag.
    func seal(_ bytes: [UInt8], purpose: String, owner: String) -> [UInt8] {
        do {
            let nonce = try AES.GCM.Nonce(data: random(12))
            let box = try AES.GCM.seal(bytes, using: key, nonce: nonce, authenticating: Self.context(purpose, owner))
            return Array(box.nonce) + Array(box.ciphertext) + Array(box.tag)
        } catch {
            preconditionFailure("a key of 32 bytes and a nonce of 12 seal anything: \(error)")
        }
    }

    /// Nil for what was not sealed here, or for another owner or purpose, or was changed.
    func open(_ sealed: [UInt8], purpose: String, owner: String) -> [UInt8]? {
        guard let box = try? AES.GCM.SealedBox(combined: sealed),
            let bytes = try? AES.GCM.open(box, using: key, authenticating: Self.context(purpose, owner))
        else { return nil }
        return Array(bytes)
    }

    /// One text for each pair.
    private static func context(_ purpose: String, _ owner: String) -> [UInt8] {
        DAGCBOR.encode([.string(purpose), .string(owner)])
    }
}
