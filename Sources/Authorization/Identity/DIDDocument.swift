package import ATProto
package import Keys

/// What the AT Protocol reads in a DID document: handle, signing key, PDS, and the other keys and services by their names.
///
/// Names of keys and services are fragments, written relative (`#atproto`) or in full (`did:plc:…#atproto`); of several entries
/// with one name the first wins. Members that the protocol does not use may have any shape. (atproto spec: DID)
package struct DIDDocument: Hashable, Sendable {
    package struct VerificationMethod: Hashable, Sendable {
        /// What follows the `#`.
        package let fragment: String
        package let type: String
        /// The DID that this is a key of; a key of another DID never speaks for this one.
        package let controller: String?
        package let publicKeyMultibase: String?
    }

    package struct Service: Hashable, Sendable {
        /// What follows the `#`.
        package let fragment: String
        package let type: String
        /// nil when it is not one URL.
        package let endpoint: String?
    }

    package let did: DID
    /// The first `at://` of `alsoKnownAs`, in small letters; nil when that is no handle. A claim, until it resolves back.
    package let handle: Handle?
    package let verificationMethods: [VerificationMethod]
    package let services: [Service]
    /// The origin of the PDS; nil when there is none or it is more than an origin.
    package let pdsOrigin: WebOrigin?
    /// All of it, as JSON in its canonical form: smaller than the values that it stands for.
    private let json: [UInt8]

    /// The document with every member, also those that nobody reads here.
    package var value: Value {
        do throws(DataModelJSONError) { return try DataModelJSON.decodePlain(json) } catch { preconditionFailure("\(error)") }
    }

    /// The origin of the PDS as text, normalised.
    package var pds: String? { pdsOrigin?.description }

    /// The key that signs commits and service tokens; nil when there is none of a kind that the protocol knows.
    package func signingKey() -> PublicKey? { key(fragment: "atproto") }

    /// The key of that name, of P-256 or secp256k1: a `Multikey`, or one of the two older types that the protocol still reads.
    package func key(fragment: String) -> PublicKey? {
        guard let method = verificationMethods.first(where: { $0.fragment == fragment && $0.controller == did.description }),
            let text = method.publicKeyMultibase
        else { return nil }
        return switch method.type {
        case "Multikey": try? PublicKey(multibase: text)
        case "EcdsaSecp256r1VerificationKey2019": try? PublicKey(curve: .p256, multibaseWithoutCodec: text)
        case "EcdsaSecp256k1VerificationKey2019": try? PublicKey(curve: .k256, multibaseWithoutCodec: text)
        default: nil
        }
    }

    package func service(fragment: String) -> Service? { services.first { $0.fragment == fragment } }

    /// - Throws: `malformed` when it is not the document of `did`, or a member that the protocol reads has another shape.
    package init(json: [UInt8], of did: DID) throws(IdentityError) {
        let value: Value
        do throws(DataModelJSONError) { value = try DataModelJSON.decodePlain(json) } catch { throw .malformed(error.description) }
        try self.init(value, of: did)
    }

    init(_ document: Value, of did: DID) throws(IdentityError) {
        guard let id = document["id"]?.stringValue else { throw .malformed("a DID document names its DID") }
        guard id.utf8.elementsEqual(did.description.utf8) else { throw .malformed("the document of another DID") }
        self.did = did
        json = DataModelJSON.encode(document)
        handle = Self.handle(try Self.names(of: document))
        var methods: [VerificationMethod] = []
        for entry in try Self.list("verificationMethod", of: document) {
            let (id, type) = try Self.identity(of: entry)
            guard let fragment = Self.fragment(id, of: did) else { continue }
            methods.append(
                VerificationMethod(
                    fragment: fragment, type: type, controller: entry["controller"]?.stringValue,
                    publicKeyMultibase: entry["publicKeyMultibase"]?.stringValue))
        }
        verificationMethods = methods
        var services: [Service] = []
        for entry in try Self.list("service", of: document) {
            let (id, type) = try Self.identity(of: entry)
            guard let fragment = Self.fragment(id, of: did) else { continue }
            services.append(Service(fragment: fragment, type: type, endpoint: entry["serviceEndpoint"]?.stringValue))
        }
        self.services = services
        pdsOrigin = services.first { $0.fragment == "atproto_pds" }.flatMap { service in
            service.type == "AtprotoPersonalDataServer" ? service.endpoint.flatMap { WebOrigin($0) } : nil
        }
    }

    private static func names(of document: Value) throws(IdentityError) -> [String] {
        var names: [String] = []
        for entry in try list("alsoKnownAs", of: document) {
            guard let name = entry.stringValue else { throw .malformed("alsoKnownAs of a DID document lists strings") }
            names.append(name)
        }
        return names
    }

    private static func list(_ name: String, of document: Value) throws(IdentityError) -> [Value] {
        guard let member = document[name] else { return [] }
        guard let list = member.arrayValue else { throw .malformed("\(name) of a DID document is a list") }
        return list
    }

    private static func identity(of entry: Value) throws(IdentityError) -> (id: String, type: String) {
        guard let id = entry["id"]?.stringValue else { throw .malformed("keys and services of a DID document have an id") }
        // DID Core lets a service have several types; the protocol's own have one.
        return (id, entry["type"]?.stringValue ?? "")
    }

    private static func fragment(_ id: String, of did: DID) -> String? {
        let bytes = id.utf8
        let prefix = bytes.starts(with: did.description.utf8) ? did.description.utf8.count : 0
        let rest = bytes.dropFirst(prefix)
        guard rest.first == UInt8(ascii: "#"), rest.count > 1 else { return nil }
        return String(Substring(rest.dropFirst()))
    }

    private static func handle(_ names: [String]) -> Handle? {
        guard let name = names.first(where: { $0.utf8.starts(with: "at://".utf8) }) else { return nil }
        return (try? Handle(String(Substring(name.utf8.dropFirst(5)))))?.normalized
    }
}
