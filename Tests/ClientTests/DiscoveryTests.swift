@testable import Client
import ATProto
import Authorization
import Keys
import Testing

@Suite("Finding the services of an account")
struct DiscoveryTests {
    private let world = ClientWorld()

    @Test("an account's DID leads to its PDS, and the PDS lists its enrollments, nobody's credential with it")
    func list() async throws {
        world.setRecords([("did:web:stratos.example.com", .map(try world.record())), ("self", ["service": "nowhere"])])
        let list = try await world.client.enrollments(of: ClientWorld.account)
        let enrollment = try #require(list.valid.first)
        #expect(list.valid.count == 1 && enrollment.account == ClientWorld.account && enrollment.boundaries == ClientWorld.boundaries)
        #expect(enrollment.signingKey == world.userKey.publicKey && enrollment.attestationKey == world.serviceKey.publicKey)
        let address = try #require(ServiceAddress("https://stratos.example.com/"))
        #expect(enrollment.serviceDID == ClientWorld.service && list[address] == enrollment)
        #expect(list.malformed == [.init(key: try RecordKey("self"), fault: .field("service"))])
        #expect(world.requests.allSatisfy { $0.headers.isEmpty })
    }

    @Test("one service's enrollment is asked for by its DID; none is nil, and one that is none is an error")
    func single() async throws {
        let url =
            "https://pds.example.com/xrpc/com.atproto.repo.getRecord?repo=did%3Aplc%3Aewvi7nxzyoun6zhxrhs64oiz"
            + "&collection=zone.stratos.actor.enrollment&rkey="
        let uri = "at://\(ClientWorld.account)/zone.stratos.actor.enrollment/"
        world.set(
            url + "did%3Aweb%3Astratos.example.com",
            ["uri": .string(uri + "did:web:stratos.example.com"), "cid": "bafy", "value": .map(try world.record())])
        let found = try await world.client.enrollment(of: ClientWorld.account, at: ClientWorld.service)
        #expect(found == (try world.enrollment()))
        world.set(url + "did%3Aweb%3Aother.example.com", ["error": "RecordNotFound", "message": "no"], status: 400)
        #expect(try await world.client.enrollment(of: ClientWorld.account, at: try DID("did:web:other.example.com")) == nil)
        world.set(
            url + "did%3Aweb%3Alocalhost%3A3100", ["uri": .string(uri + "did:web:localhost:3100"), "cid": "bafy", "value": [:]])
        await #expect(throws: ClientError.self) {
            try await world.client.enrollment(of: ClientWorld.account, at: try DID("did:web:localhost%3A3100"))
        }
        // Another record than the one that was asked for proves nothing.
        world.set(
            url + "did%3Aweb%3Athird.example.com",
            ["uri": .string(uri + "did:web:stratos.example.com"), "cid": "bafy", "value": .map(try world.record())])
        await #expect(throws: ClientError.self) {
            try await world.client.enrollment(of: ClientWorld.account, at: try DID("did:web:third.example.com"))
        }
    }

    @Test("an account that is not known, a PDS that is none, and answers that are none are told apart")
    func errors() async throws {
        let stranger = try DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
        await #expect(throws: ClientError.unknownAccount) { try await world.client.enrollments(of: stranger) }
        await #expect(throws: ClientError.unsupportedDID) { try await world.client.enrollments(of: try DID("did:key:z123")) }
        await #expect(throws: ClientError.noPDS) { try await world.client.enrollments(of: ClientWorld.service) }
        await #expect(throws: ClientError.refused(status: 404, name: nil)) {
            try await world.client.enrollments(of: ClientWorld.account)
        }
        let url =
            "https://pds.example.com/xrpc/com.atproto.repo.listRecords?repo=did%3Aplc%3Aewvi7nxzyoun6zhxrhs64oiz"
            + "&collection=zone.stratos.actor.enrollment&limit=100"
        world.set(url, ["error": "RepoTakendown", "message": "no"], status: 400)
        await #expect(throws: ClientError.refused(status: 400, name: "RepoTakendown")) {
            try await world.client.enrollments(of: ClientWorld.account)
        }
        world.set(url, [], status: 302, type: "application/json")
        await #expect(throws: ClientError.refused(status: 302, name: nil)) { try await world.client.enrollments(of: ClientWorld.account) }
        world.set(url, ["records": .array(Array(repeating: [:], count: 101))])
        await #expect(throws: ClientError.self) { try await world.client.enrollments(of: ClientWorld.account) }
        world.set(url, ["records": []], type: "text/html")
        await #expect(throws: ClientError.self) { try await world.client.enrollments(of: ClientWorld.account) }
    }

    @Test(
        "a record that lacks a field or has another thing in it is no enrollment",
        arguments: ["service", "signingKey", "attestation", "createdAt", "boundaries"])
    func fields(name: String) throws {
        for value in [nil, .null, 1, "", "x", [], [1], ["value": 1], [["value": ""]], .bytes([1])] as [Value?] {
            // A record without boundaries has none; an empty list is one.
            if name == "boundaries", value == nil || value == [] { continue }
            #expect(throws: EnrollmentFault.field(name), "\(name): \(String(describing: value))") {
                try world.enrollment { $0[name] = value }
            }
        }
        #expect(try world.enrollment { $0["boundaries"] = nil }.boundaries.isEmpty)
    }

    @Test("a service is an origin over TLS, keys are of their curves, a signature has 64 bytes")
    func shapes() throws {
        for service in ["http://stratos.example.com", "https://stratos.example.com/path", "ftp://a.example", "https://u:p@a.example"] {
            #expect(throws: EnrollmentFault.field("service")) { try world.enrollment { $0["service"] = .string(service) } }
        }
        #expect(throws: EnrollmentFault.field("signingKey")) {
            try world.enrollment { $0["signingKey"] = .string(world.serviceKey.publicKey.didKey) }
        }
        for count in [63, 65] {
            #expect(throws: EnrollmentFault.field("attestation")) {
                try world.enrollment {
                    $0["attestation"] = [
                        "sig": .bytes([UInt8](repeating: 1, count: count)), "signingKey": .string(world.serviceKey.publicKey.didKey),
                    ]
                }
            }
        }
    }

    @Test("fifty boundaries of 253 bytes are read, one more or one byte more is none")
    func bounds() throws {
        func boundaries(_ count: Int, _ bytes: Int) -> Value {
            .array((0..<count).map { ["value": .string(String(repeating: "b", count: bytes - 2) + "\($0 / 10)\($0 % 10)")] })
        }
        #expect(try world.enrollment { $0["boundaries"] = boundaries(50, 253) }.boundaries.count == 50)
        #expect(throws: EnrollmentFault.field("boundaries")) { try world.enrollment { $0["boundaries"] = boundaries(51, 253) } }
        #expect(throws: EnrollmentFault.field("boundaries")) { try world.enrollment { $0["boundaries"] = boundaries(50, 254) } }
    }

    @Test("a record's key gives the service's DID, with a port too; an old one's comes from its URL")
    func serviceDIDs() throws {
        func did(_ key: String, _ service: String = ClientWorld.serviceURL) throws -> String? {
            var record = try world.record()
            record["service"] = .string(service)
            return try Enrollment(.map(record), of: ClientWorld.account, key: try RecordKey(key)).serviceDID?.description
        }
        #expect(try did("did:web:localhost:3100", "http://localhost:3100") == "did:web:localhost%3A3100")
        #expect(try did("did:plc:ewvi7nxzyoun6zhxrhs64oiz") == "did:plc:ewvi7nxzyoun6zhxrhs64oiz")
        #expect(try did("self") == "did:web:stratos.example.com")
        #expect(try did("3jzfcijpj2z2a", "https://stratos.example.com:8443") == "did:web:stratos.example.com%3A8443")
        #expect(try RecordKey(ofEnrollmentAt: try DID("did:web:localhost%3A3100")).description == "did:web:localhost:3100")
    }
}

@Suite("Believing an enrollment")
struct AttestationTests {
    private let world = ClientWorld()

    @Test("what the service attests is believed, under either name of its key and in any order of boundaries")
    func believed() async throws {
        for fragments in [["atproto"], ["atproto_pns"], ["atproto", "atproto_pns"]] {
            world.setService(fragments: fragments)
            try await world.client.verify(try world.enrollment())
        }
        try await world.client.verify(
            try world.enrollment { record in
                record["boundaries"] = .array((record["boundaries"]?.arrayValue ?? []).reversed())
            })
    }

    @Test("every other claim is refused, and why")
    func refused() async throws {
        func fault(_ enrollment: Enrollment) async -> AttestationFault? {
            do throws(AttestationFault) {
                try await world.client.verify(enrollment)
                return nil
            } catch {
                return error
            }
        }
        let other = PrivateKey.generate(.p256).publicKey.didKey
        #expect(await fault(try world.enrollment { $0["signingKey"] = .string(other) }) == .badSignature)
        #expect(
            await fault(try world.enrollment { $0["boundaries"] = [["value": "did:web:stratos.example.com/general"]] }) == .badSignature)
        let twice = ClientWorld.boundaries + [ClientWorld.boundaries[0]]
        #expect(await fault(try world.enrollment { $0["boundaries"] = .array(twice.map { ["value": .string($0)] }) }) == .badSignature)
        let copied = try Enrollment(
            .map(try world.record()), of: try DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), key: try RecordKey(ClientWorld.service.description))
        #expect(await fault(copied) == .badSignature)
        let foreign = try world.record(boundaries: ["did:web:other.example.com/general"])
        #expect(
            await fault(try Enrollment(.map(foreign), of: ClientWorld.account, key: try RecordKey(ClientWorld.service.description)))
                == .foreignBoundary("did:web:other.example.com/general"))
        #expect(await fault(try world.enrollment { $0["service"] = "https://thief.example.org" }) == .otherAddress)
        world.setService(fragments: [])
        #expect(await fault(try world.enrollment()) == .noServiceKey)
        world.setService(key: PrivateKey.generate(.k256))
        #expect(await fault(try world.enrollment()) == .otherKey)
        world.set("https://stratos.example.com/.well-known/did.json", [], status: 404, type: "text/html")
        #expect(await fault(try world.enrollment()) == .unknownService(.unknownAccount))
    }

    @Test("a signature with any bit turned is refused")
    func turnedBits() async throws {
        let whole = try world.enrollment()
        for bit in stride(from: 0, to: 512, by: 7) {
            var signature = whole.attestation
            signature[bit / 8] ^= 1 << (bit % 8)
            let changed = try world.enrollment {
                $0["attestation"] = ["sig": .bytes(signature), "signingKey": .string(world.serviceKey.publicKey.didKey)]
            }
            await #expect(throws: AttestationFault.badSignature, "bit \(bit)") { try await world.client.verify(changed) }
        }
    }
}
