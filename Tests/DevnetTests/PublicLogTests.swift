import ATProto
import Devnet
import Keys
import Simulation
import Testing

@Suite("The directory and the world's operations")
struct PublicLogTests {
    @Test("an operation of the public directory makes its DID and its CID", arguments: PublicLogs.all)
    func identifiers(log: String) throws {
        let entries = try #require(try DataModelJSON.decodePlain(Array(log.utf8)).arrayValue)
        #expect(try PLCOperation(try #require(entries[0]["operation"])).derivedDID == entries[0]["did"]?.stringValue)
        for entry in entries {
            let operation = try PLCOperation(try #require(entry["operation"]))
            #expect(operation.cid.description == entry["cid"]?.stringValue)
            #expect(operation.value == entry["operation"])
        }
    }

    @Test("a public log that is sent again at its own times is accepted, nullified and shown as it was", arguments: PublicLogs.all)
    func replayed(log: String) async throws {
        let entries = try #require(try DataModelJSON.decodePlain(Array(log.utf8)).arrayValue)
        let clock = StoppedClock(milliseconds: 0)
        var configuration = DevnetConfiguration()
        configuration.clock = { clock.milliseconds }
        try await Devnet.run(configuration) { devnet in
            let url = "\(devnet.plcURL)/\(try #require(entries[0]["did"]?.stringValue))"
            for entry in entries {
                clock.milliseconds = try Datetime(try #require(entry["createdAt"]?.stringValue)).milliseconds
                let answer = try await HTTPCall.post(url, try #require(entry["operation"]))
                #expect(answer.status == 200 && answer.text == "OK", "\(answer.text)")
            }
            #expect(try await HTTPCall.get(url + "/log/audit").json == .array(entries))
            let kept = entries.filter { $0["nullified"] == false }
            #expect(try await HTTPCall.get(url + "/log").json == .array(kept.compactMap { $0["operation"] }))
            #expect(try await HTTPCall.get(url + "/log/last").json == kept.last?["operation"])
        }
    }

    @Test("the document of a public DID is the one that the public directory gives")
    func document() async throws {
        let entries = try #require(try DataModelJSON.decodePlain(Array(PublicLogs.blueskyApp.utf8)).arrayValue)
        try await Devnet.run { devnet in
            let did = "did:plc:z72i7hdynmk6r22z27h6tvur"
            for entry in entries {
                #expect(try await HTTPCall.post("\(devnet.plcURL)/\(did)", try #require(entry["operation"])).status == 200)
            }
            let answer = try await HTTPCall.get("\(devnet.plcURL)/\(did)")
            #expect(answer.status == 200 && answer.contentType == "application/did+ld+json; charset=utf-8")
            let expected: Value = [
                "@context": [
                    "https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1",
                    "https://w3id.org/security/suites/secp256k1-2019/v1",
                ],
                "id": "did:plc:z72i7hdynmk6r22z27h6tvur", "alsoKnownAs": ["at://bsky.app"],
                "verificationMethod": [
                    [
                        "id": "did:plc:z72i7hdynmk6r22z27h6tvur#atproto", "type": "Multikey",
                        "controller": "did:plc:z72i7hdynmk6r22z27h6tvur",
                        "publicKeyMultibase": "zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF",
                    ]
                ],
                "service": [
                    ["id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "https://bsky.social"]
                ],
            ]
            #expect(try answer.json == expected)
        }
    }

    @Test("a public operation with one bit of its signature turned is refused, and so is its DID's absence from the address")
    func altered() async throws {
        let entries = try #require(try DataModelJSON.decodePlain(Array(PublicLogs.blueskyApp.utf8)).arrayValue)
        var generator = SeededGenerator(seed: TestFiles.seed)
        try await Devnet.run { devnet in
            let genesis = try #require(entries[0]["operation"]?.mapValue)
            var altered = genesis
            var signature = try Base64URL.decode(try #require(genesis["sig"]?.stringValue))
            let bit = Int.random(in: 0..<512, using: &generator)
            signature[bit / 8] ^= 1 << UInt8(bit % 8)
            altered["sig"] = .string(Base64URL.encode(signature))
            // The DID is a hash of the signature too, so the address must be the altered one's own.
            let did = try PLCOperation(.map(altered)).derivedDID
            let refused = try await HTTPCall.post("\(devnet.plcURL)/\(did)", .map(altered))
            #expect(refused.status == 400, "bit \(bit)")
            #expect(try refused.json["message"] == "Invalid signature on op", "bit \(bit)")
            let elsewhere = try await HTTPCall.post("\(devnet.plcURL)/did:plc:z72i7hdynmk6r22z27h6tvus", .map(genesis))
            #expect(elsewhere.status == 400)
            #expect(
                try elsewhere.json["message"]
                    == "Hash of genesis operation does not match DID identifier: did:plc:z72i7hdynmk6r22z27h6tvur")
        }
    }
}
