import ATProto
import Authorization
import Keys
import Testing

@Suite struct DIDDocumentTests {
    private let did: DID

    init() throws { did = try DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz") }

    private func document(_ members: String) throws(IdentityError) -> DIDDocument {
        try DIDDocument(json: [UInt8]("{\"id\":\"\(did)\",\(members)\"x\":[{}]}".utf8), of: did)
    }

    private func method(
        id: String = "did:plc:ewvi7nxzyoun6zhxrhs64oiz#atproto", type: String = "Multikey",
        controller: String = "did:plc:ewvi7nxzyoun6zhxrhs64oiz", _ text: String
    ) -> String {
        "{\"id\":\"\(id)\",\"type\":\"\(type)\",\"controller\":\"\(controller)\",\"publicKeyMultibase\":\"\(text)\"}"
    }

    @Test("a document as the directory of did:plc gives it")
    func typical() throws {
        let key = PrivateKey.generate(.k256).publicKey
        let document = try document(
            """
            "@context":["https://www.w3.org/ns/did/v1"],"alsoKnownAs":["https://a.example","at://Alice.Example.com","at://b.example.com"],
            "verificationMethod":[\(method(key.multibase))],
            "service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://PDS.example.com/"}],
            """)
        #expect(document.did == did)
        #expect(document.handle?.description == "alice.example.com")
        #expect(document.signingKey() == key)
        #expect(document.pds == "https://pds.example.com")
        #expect(document.service(fragment: "atproto_pds")?.endpoint == "https://PDS.example.com/")
    }

    @Test("the signing key may be of both curves, and be named relatively", arguments: Curve.allCases)
    func curves(curve: Curve) throws {
        let key = PrivateKey.generate(curve).publicKey
        #expect(try document("\"verificationMethod\":[\(method(id: "#atproto", key.multibase))],").signingKey() == key)
    }

    @Test("the two older types name the curve themselves, and their point may be uncompressed", arguments: Curve.allCases)
    func olderTypes(curve: Curve) throws {
        let key = PrivateKey.generate(curve).publicKey
        let type = curve == .p256 ? "EcdsaSecp256r1VerificationKey2019" : "EcdsaSecp256k1VerificationKey2019"
        let uncompressed = try [4] + Base64URL.decode(key.jwk.x) + Base64URL.decode(key.jwk.y)
        for point in [key.compressed, uncompressed] {
            let text = "z" + Base58BTC.encode(point)
            #expect(try document("\"verificationMethod\":[\(method(type: type, text))],").signingKey() == key)
            #expect(try document("\"verificationMethod\":[\(method(type: "Multikey", text))],").signingKey() == nil)
        }
    }

    @Test("of several keys with one name the first is meant, and other names and other DIDs' keys are passed over")
    func severalKeys() throws {
        let keys = (0..<4).map { _ in PrivateKey.generate(.p256).publicKey.multibase }
        let document = try document(
            "\"verificationMethod\":[\(method(id: "did:plc:ewvi7nxzyoun6zhxrhs64oiz#other", keys[0])),"
                + "\(method(id: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa#atproto", keys[0])),\(method(controller: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", keys[1])),"
                + "\(method(keys[2])),\(method(keys[3]))],")
        #expect(document.signingKey()?.multibase == keys[2])
        #expect(document.key(fragment: "other")?.multibase == keys[0])
        #expect(document.key(fragment: "none") == nil)
    }

    @Test(
        "a key that is none, or of another kind, is no key",
        arguments: [
            "", "z", "m123", "zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF!", "z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
        ])
    func noKey(text: String) throws {
        #expect(try document("\"verificationMethod\":[\(method(text))],").signingKey() == nil)
    }

    @Test("a key of a type that nobody knows, or in another form, is no key")
    func otherForms() throws {
        let key = PrivateKey.generate(.p256).publicKey
        #expect(try document("\"verificationMethod\":[\(method(type: "JsonWebKey2020", key.multibase))],").signingKey() == nil)
        #expect(
            try document(
                "\"verificationMethod\":[{\"id\":\"#atproto\",\"type\":\"Multikey\",\"controller\":\"\(did)\",\"publicKeyMultibase\":[]}],"
            ).signingKey() == nil)
        #expect(try document("").signingKey() == nil)
    }

    @Test(
        "a PDS is one origin, of the right type",
        arguments: [
            "\"type\":\"AtprotoPersonalDataServer\",\"serviceEndpoint\":\"https://pds.example.com/path\"",
            "\"type\":\"AtprotoPersonalDataServer\",\"serviceEndpoint\":{\"a\":\"https://pds.example.com\"}",
            "\"type\":\"AtprotoPersonalDataServer\",\"serviceEndpoint\":\"pds.example.com\"", "\"type\":\"AtprotoPersonalDataServer\"",
            "\"type\":\"Other\",\"serviceEndpoint\":\"https://pds.example.com\"", "\"serviceEndpoint\":\"https://pds.example.com\"",
        ])
    func noPDS(members: String) throws {
        // The second entry is right, but the first of the name counts.
        let right = "{\"id\":\"#atproto_pds\",\"type\":\"AtprotoPersonalDataServer\",\"serviceEndpoint\":\"https://pds.example.com\"}"
        #expect(try document("\"service\":[{\"id\":\"#atproto_pds\",\(members)},\(right)],").pds == nil)
        #expect(try document("\"service\":[{\"id\":\"#other\",\(members)},\(right)],").pds == "https://pds.example.com")
    }

    @Test(
        "the first at:// counts, even if it is no handle",
        arguments: ["at://", "at://alice", "at://alice.example.com/path", "at://did:plc:abc"])
    func noHandle(name: String) throws {
        #expect(try document("\"alsoKnownAs\":[\"\(name)\",\"at://alice.example.com\"],").handle == nil)
        #expect(try document("\"alsoKnownAs\":[\"https://a.example\"],").handle == nil)
    }

    @Test(
        "what is not the document of the DID is refused",
        arguments: [
            "", "[]", "null", "{}", "{\"id\":7}", "{\"id\":\"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa\"}",
            "{\"id\":\"DID:plc:ewvi7nxzyoun6zhxrhs64oiz\"}",
            "{\"id\":\"did:plc:ewvi7nxzyoun6zhxrhs64oiz\"", "{\"id\":\"did:plc:ewvi7nxzyoun6zhxrhs64oiz\"}{}",
            "{\"id\":\"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa\",\"id\":\"did:plc:ewvi7nxzyoun6zhxrhs64oiz\"}",
            "{\"id\":\"did:plc:ewvi7nxzyoun6zhxrhs64oiz\",\"service\":{}}",
            "{\"id\":\"did:plc:ewvi7nxzyoun6zhxrhs64oiz\",\"verificationMethod\":[\"#atproto\"]}",
            "{\"id\":\"did:plc:ewvi7nxzyoun6zhxrhs64oiz\",\"alsoKnownAs\":\"at://alice.example.com\"}",
            "{\"id\":\"did:plc:ewvi7nxzyoun6zhxrhs64oiz\",\"alsoKnownAs\":[7]}",
        ])
    func malformed(json: String) {
        #expect {
            try DIDDocument(json: [UInt8](json.utf8), of: did)
        } throws: { error in
            if case .malformed = error as? IdentityError { true } else { false }
        }
    }

    @Test("the document of a DID that was resolved by another name is another's, however alike they look")
    func canonicallyEquivalent() throws {
        // U+212A is canonically equivalent to K, and Swift's own comparison takes them for equal.
        let did = try DID("did:web:K.example.com")
        #expect(throws: IdentityError.self) {
            try DIDDocument(json: [UInt8]("{\"id\":\"did:web:\u{212A}.example.com\"}".utf8), of: did)
        }
    }
}
