package import ATProto
package import Keys

/// `service.start`: event 1 of every deployment, and one more at each start. It pins the service's DID and key.
package struct ServiceStart: Hashable, Sendable {
    package let provenance: Provenance
    /// The program's version: 1–64 bytes.
    package let version: String
    /// SHA-256 of the program.
    package let build: [UInt8]
    package let service: DID
    /// The secp256k1 key of the epoch that signs this event.
    package let key: PublicKey
    /// The bare names that the service was configured to allow.
    package let boundaries: BoundarySet
    package let generation: UInt64
    /// Raw cursor of the last event before this generation; present exactly where this event opens one.
    package let before: UInt64?
    /// 32 random bytes for the leaves of the service's own log; present exactly in event 1.
    package let tagKey: [UInt8]?

    package init(
        provenance: Provenance, version: String, build: [UInt8], service: DID, key: PublicKey, boundaries: BoundarySet,
        generation: UInt64 = 0, before: UInt64? = nil, tagKey: [UInt8]?
    ) {
        precondition(build.count == 32 && tagKey?.count ?? 32 == 32, "a build digest and a tag key have 32 bytes")
        self.provenance = provenance
        self.version = version
        self.build = build
        self.service = service
        self.key = key
        self.boundaries = boundaries
        self.generation = generation
        self.before = before
        self.tagKey = tagKey
    }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        version = try fields.text("version", bytesMax: 64)
        build = try fields.bytes("build", count: 32)
        service = try fields.did("service")
        key = try fields.key("key", .k256)
        boundaries = try fields.boundaries("boundaries")
        generation = try fields.integer("generation")
        guard generation <= StreamCursor.generationMax else { throw fields.failure("generation", "at most \(StreamCursor.generationMax)") }
        before = try fields.optionalInteger("before")
        guard before == nil || generation > 0 else { throw fields.failure("before", "absent in generation 0") }
        tagKey = try fields.optionalBytes("tagKey", count: Leaf.tagKeyByteCount)
    }

    func encode(into map: inout ValueMap) {
        map["version"] = .string(version)
        map["build"] = .bytes(build)
        map["service"] = .string(service.description)
        map["key"] = .string(key.didKey)
        map["boundaries"] = boundaries.encoded()
        map["generation"] = .integer(Int64(generation))
        if let before { map["before"] = .integer(Int64(before)) }
        if let tagKey { map["tagKey"] = .bytes(tagKey) }
    }
}

/// `service.key`: the next key epoch begins after this event.
///
/// Ordinarily the old key signs the event and the new one accepts. With the old key lost, the new key signs the event itself,
/// and its epoch is already the new one.
package struct ServiceKey: Hashable, Sendable {
    package enum Handover: Hashable, Sendable {
        /// The new key's signature over the body without `accept`: 64 bytes.
        case accepted([UInt8])
        case lost
    }

    package let provenance: Provenance
    package let service: DID
    /// The epoch that begins.
    package let epoch: UInt64
    package let key: PublicKey
    package let handover: Handover

    package init(provenance: Provenance, service: DID, epoch: UInt64, key: PublicKey, handover: Handover) {
        self.provenance = provenance
        self.service = service
        self.epoch = epoch
        self.key = key
        self.handover = handover
    }

    /// A hand-over that the new key accepts.
    package static func accepted(provenance: Provenance, service: DID, epoch: UInt64, by key: PrivateKey) throws(EventLogError)
        -> ServiceKey
    {
        let unaccepted = ServiceKey(provenance: provenance, service: service, epoch: epoch, key: key.publicKey, handover: .accepted([]))
        let signature: [UInt8]
        do { signature = try key.sign(unaccepted.acceptedBytes) } catch { throw .signing("\(error)") }
        return ServiceKey(provenance: provenance, service: service, epoch: epoch, key: key.publicKey, handover: .accepted(signature))
    }

    /// What the new key signs: the canonical body without `accept`.
    package var acceptedBytes: [UInt8] {
        var map = ValueMap()
        provenance.encode(into: &map)
        encode(into: &map)
        map.remove("accept")
        return DAGCBOR.encode(.map(map))
    }

    /// Whether the new key accepts; true for a lost one, where the event's own signature says so.
    package var isAccepted: Bool {
        switch handover {
        case .lost: true
        case .accepted(let signature): key.verifies(signature, of: acceptedBytes)
        }
    }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        service = try fields.did("service")
        epoch = try fields.integer("epoch", least: 2)
        key = try fields.key("key", .k256)
        let accept = try fields.optionalBytes("accept", count: 64)
        switch (accept, try fields.flag("lost")) {
        case (let accept?, false): handover = .accepted(accept)
        case (nil, true): handover = .lost
        default: throw fields.failure("accept", "present, or `lost` in its place")
        }
    }

    func encode(into map: inout ValueMap) {
        map["service"] = .string(service.description)
        map["epoch"] = .integer(Int64(epoch))
        map["key"] = .string(key.didKey)
        switch handover {
        case .accepted(let signature): map["accept"] = .bytes(signature)
        case .lost: map["lost"] = true
        }
    }
}

/// `service.config`: the settings that decide, for an auditor. No fold of an actor reads it.
package struct ServiceConfig: Hashable, Sendable {
    package enum Setting: Hashable, Sendable {
        case text(String), integer(Int64), flag(Bool)
        /// A list, as SHA-256 of the DAG-CBOR array of its items in order of their bytes.
        case digest([UInt8])
    }

    package let provenance: Provenance
    /// By the name of the setting.
    package let settings: [String: Setting]

    package static let settingsMax = 256
    package static let nameBytesMax = 64
    package static let textBytesMax = 2048

    package init(provenance: Provenance, settings: [String: Setting]) {
        self.provenance = provenance
        self.settings = settings
    }

    package static func digest(ofList items: some Sequence<String>) -> Setting {
        let sorted = Set(items).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        return .digest(CID(hashing: DAGCBOR.encode(.array(sorted.map(Value.string)))).digest)
    }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        guard case .map(let map) = try fields.required("settings"), map.count <= ServiceConfig.settingsMax else {
            throw fields.failure("settings", "a map of at most \(ServiceConfig.settingsMax)")
        }
        var settings: [String: Setting] = [:]
        for (name, value) in map {
            guard (1...ServiceConfig.nameBytesMax).contains(name.utf8.count) else {
                throw fields.failure("settings", "names of 1 to \(ServiceConfig.nameBytesMax) bytes")
            }
            switch value {
            case .string(let text) where text.utf8.count <= ServiceConfig.textBytesMax: settings[name] = .text(text)
            case .integer(let integer) where integer.magnitude < 1 << 53: settings[name] = .integer(integer)
            case .bool(let flag): settings[name] = .flag(flag)
            case .bytes(let digest) where digest.count == 32: settings[name] = .digest(digest)
            default: throw fields.failure("settings", "a text, an integer, a truth value or a digest")
            }
        }
        self.settings = settings
    }

    func encode(into map: inout ValueMap) {
        var encoded = ValueMap()
        for (name, setting) in settings {
            encoded[name] =
                switch setting {
                case .text(let text): .string(text)
                case .integer(let integer): .integer(integer)
                case .flag(let flag): .bool(flag)
                case .digest(let digest): .bytes(digest)
                }
        }
        map["settings"] = .map(encoded)
    }
}
