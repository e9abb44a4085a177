package import Crypto

extension PrivateKey {
    /// A secret of its own for one purpose: HKDF-SHA-256 of the private scalar, without salt, with `label` as info; 32 bytes.
    /// The same key gives the same secret on every node and after every start; nothing leads back.
    package func derived(_ label: String) -> SymmetricKey {
        withRawBytes { bytes in
            HKDF<SHA256>.deriveKey(inputKeyMaterial: SymmetricKey(data: bytes), info: Array(label.utf8), outputByteCount: 32)
        }
    }
}
