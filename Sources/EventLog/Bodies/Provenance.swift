package import ATProto

/// What every body begins with: a salt, who did it, and the client's request where there was one with an idempotency key.
package struct Provenance: Hashable, Sendable {
    /// 32 random bytes: without them nobody can confirm a guess of an erased body from its CID.
    package let salt: [UInt8]
    package let by: Agent
    package let request: ClientRequest?

    package static let saltByteCount = 32

    /// - Parameter salt: 32 bytes from the system's random source; from a fixed one in golden files only.
    package init(salt: [UInt8], by: Agent, request: ClientRequest? = nil) {
        precondition(salt.count == Provenance.saltByteCount, "a salt has 32 bytes")
        self.salt = salt
        self.by = by
        self.request = request
    }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        salt = try fields.bytes("salt", count: Provenance.saltByteCount)
        by = try Agent(try fields.required("by"))
        request = if let value = fields.optional("request") { try ClientRequest(value) } else { nil }
    }

    func encode(into map: inout ValueMap) {
        map["by"] = .map(by.encoded())
        map["salt"] = .bytes(salt)
        if let request { map["request"] = .map(request.encoded()) }
    }
}

/// Who acted, and by what they proved it.
package struct Agent: Hashable, Sendable {
    package enum Identity: Hashable, Sendable {
        /// A user, an AppView; the service itself and its operator act under the service's DID.
        case did(DID)
        /// The user name that an administrator gave: 1–128 bytes.
        case administrator(String)
    }

    package enum Credential: String, Sendable, CaseIterable {
        case dpop, serviceAuth, appView, admin, dev, `operator`, oauth, system
    }

    package let identity: Identity
    package let credential: Credential

    package static let administratorBytesMax = 128

    package init(did: DID, credential: Credential) {
        identity = .did(did)
        self.credential = credential
    }

    /// - Throws: `malformed` for a name that is empty or longer than 128 bytes.
    package init(administrator name: String, credential: Credential = .admin) throws(EventLogError) {
        guard (1...Agent.administratorBytesMax).contains(name.utf8.count) else {
            throw .malformed("by: administrator: a text of 1 to \(Agent.administratorBytesMax) bytes")
        }
        identity = .administrator(name)
        self.credential = credential
    }

    init(_ value: Value) throws(EventLogError) {
        var fields = try FieldReader(value, in: "by")
        credential = try fields.choice("credential", Credential.self)
        if let name = try fields.optionalText("administrator", bytesMax: Agent.administratorBytesMax) {
            identity = .administrator(name)
        } else {
            identity = .did(try fields.did("did"))
        }
        try fields.finish()
    }

    func encoded() -> ValueMap {
        var map = identity.encoded()
        map["credential"] = .string(credential.rawValue)
        return map
    }
}

extension Agent.Identity {
    /// The DID, or the name that an administrator gave.
    package var name: String {
        switch self {
        case .did(let did): did.description
        case .administrator(let name): name
        }
    }

    func encoded() -> ValueMap {
        switch self {
        case .did(let did): ["did": .string(did.description)]
        case .administrator(let name): ["administrator": .string(name)]
        }
    }
}

/// The request of a client that gave an idempotency key.
package struct ClientRequest: Hashable, Sendable {
    /// SHA-256 of the key, which is 1–255 bytes of visible ASCII.
    package let key: [UInt8]
    /// SHA-256 of the canonical DAG-CBOR of the input.
    package let input: [UInt8]
    package let method: NSID

    package static let keyBytesMax = 255

    /// - Throws: `malformed` unless the key is 1–255 bytes of visible ASCII.
    package init(idempotencyKey: String, input: Value, method: NSID) throws(EventLogError) {
        guard (1...ClientRequest.keyBytesMax).contains(idempotencyKey.utf8.count),
            idempotencyKey.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
        else { throw .malformed("idempotency key: visible ASCII of 1 to \(ClientRequest.keyBytesMax) bytes") }
        key = CID(hashing: Array(idempotencyKey.utf8), codec: .raw).digest
        self.input = CID(hashing: DAGCBOR.encode(input)).digest
        self.method = method
    }

    /// - Parameters: the two digests, 32 bytes each.
    package init(key: [UInt8], input: [UInt8], method: NSID) {
        precondition(key.count == 32 && input.count == 32, "a key and an input are SHA-256 digests")
        self.key = key
        self.input = input
        self.method = method
    }

    init(_ value: Value) throws(EventLogError) {
        var fields = try FieldReader(value, in: "request")
        key = try fields.bytes("key", count: 32)
        input = try fields.bytes("input", count: 32)
        method = try fields.nsid("method")
        try fields.finish()
    }

    func encoded() -> ValueMap {
        ["key": .bytes(key), "input": .bytes(input), "method": .string(method.description)]
    }
}
