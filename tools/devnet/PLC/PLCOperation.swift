package import ATProto
import Crypto
package import Keys

/// One signed operation of a did:plc log (did:plc specification, "Operation Serialization, Signing, and Validation").
///
/// The deprecated `create` form is not here: the public directory keeps old ones and accepts no new ones.
package struct PLCOperation: Hashable, Sendable {
    /// What a DID says of itself after an operation. `rotationKeys` come in the order of their power.
    package struct Content: Hashable, Sendable {
        package var rotationKeys: [String]
        /// did:key texts by fragment.
        package var verificationMethods: [String: String]
        package var alsoKnownAs: [String]
        package var services: [String: Service]

        package init(
            rotationKeys: [String], verificationMethods: [String: String], alsoKnownAs: [String], services: [String: Service]
        ) {
            self.rotationKeys = rotationKeys
            self.verificationMethods = verificationMethods
            self.alsoKnownAs = alsoKnownAs
            self.services = services
        }
    }

    package struct Service: Hashable, Sendable {
        package var type: String
        package var endpoint: String

        package init(type: String, endpoint: String) {
            self.type = type
            self.endpoint = endpoint
        }
    }

    /// nil for a tombstone.
    package let content: Content?
    /// nil for a genesis operation.
    package let prev: CID?
    package let signature: [UInt8]

    /// Signs an operation; a tombstone without `content`.
    package init(_ content: Content?, prev: CID?, signedBy key: PrivateKey) throws(KeysError) {
        precondition(content != nil || prev != nil, "a tombstone follows an operation")
        self.content = content
        self.prev = prev
        signature = try key.sign(DAGCBOR.encode(.map(Self.unsigned(content, prev: prev))))
    }

    /// The object as JSON carries it and DAG-CBOR hashes it.
    package var value: Value {
        var map = Self.unsigned(content, prev: prev)
        map["sig"] = .string(Base64URL.encode(signature))
        return .map(map)
    }

    package var cid: CID { CID(hashing: DAGCBOR.encode(value)) }

    /// The DID that this operation, as the first of its log, makes: 24 characters of the base32 of its hash.
    package var derivedDID: String { "did:plc:\(Base32.encode(cid.digest).prefix(24))" }

    /// The first of `keys` that signed this.
    func signer(among keys: [String]) -> String? {
        let message = DAGCBOR.encode(.map(Self.unsigned(content, prev: prev)))
        return keys.first { key in
            guard let key = try? PublicKey(didKey: key) else { return false }  // a key that does not parse signed nothing
            return key.verifies(signature, of: message)
        }
    }

    private static func unsigned(_ content: Content?, prev: CID?) -> ValueMap {
        let prev: Value = prev.map { .string($0.description) } ?? .null
        guard let content else { return ["type": "plc_tombstone", "prev": prev] }
        var map = content.fields
        map["type"] = "plc_operation"
        map["prev"] = prev
        return map
    }
}

extension PLCOperation.Content {
    /// The four fields as operations and `/data` show them.
    var fields: ValueMap {
        [
            "rotationKeys": .array(rotationKeys.map(Value.string)), "alsoKnownAs": .array(alsoKnownAs.map(Value.string)),
            "verificationMethods": .map(verificationMethods.reduce(into: [:]) { $0[$1.key] = .string($1.value) }),
            "services": .map(
                services.reduce(into: [:]) {
                    $0[$1.key] = ["type": .string($1.value.type), "endpoint": .string($1.value.endpoint)]
                }),
        ]
    }
}
