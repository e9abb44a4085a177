import ATProto
import Devnet
import Keys
import Testing

@Suite("The directory's rules")
struct DirectoryTests {
    /// A DID of two rotation keys, the first the stronger, made over HTTP.
    private struct Subject {
        let strong = PrivateKey.generate(.p256)
        let weak = PrivateKey.generate(.k256)
        let genesis: PLCOperation
        let url: String

        init(_ devnet: Devnet) async throws {
            genesis = try PLCOperation(Self.content(strong, weak), prev: nil, signedBy: weak)
            url = "\(devnet.plcURL)/\(genesis.derivedDID)"
            try #require(try await submit(genesis) == 200)
        }

        var content: PLCOperation.Content { Self.content(strong, weak) }

        func submit(_ operation: PLCOperation) async throws -> Int { try await HTTPCall.post(url, operation.value).status }

        func message(_ operation: PLCOperation) async throws -> String? {
            let answer = try await HTTPCall.post(url, operation.value)
            return answer.status == 400 ? try answer.json["message"]?.stringValue : "\(answer.status)"
        }

        private static func content(_ strong: PrivateKey, _ weak: PrivateKey) -> PLCOperation.Content {
            PLCOperation.Content(
                rotationKeys: [strong, weak].map(\.publicKey.didKey), verificationMethods: ["atproto": weak.publicKey.didKey],
                alsoKnownAs: ["at://subject.test"], services: [:])
        }
    }

    @Test("an unknown DID is 404, with the colons plain or escaped; a known one is found either way")
    func addresses() async throws {
        try await Devnet.run { devnet in
            let did = try devnet.createAccount(handle: "alice.test").did.description
            let escaped = did.replacing(":", with: "%3A")
            for path in [did, escaped, did + "/data", did + "/log", did + "/log/last", did + "/log/audit"] {
                #expect(try await HTTPCall.get("\(devnet.plcURL)/\(path)").status == 200, "\(path)")
                let unknown = path.replacing(did, with: "did:plc:nobody").replacing(escaped, with: "did%3Aplc%3Anobody")
                let answer = try await HTTPCall.get("\(devnet.plcURL)/\(unknown)")
                #expect(answer.status == 404, "\(unknown)")
                #expect(try answer.json == ["message": "DID not registered: did:plc:nobody"])
            }
            #expect(try await HTTPCall.get("\(devnet.plcURL)/_health").json == ["version": "devnet"])
        }
    }

    @Test("an update follows the last operation and is signed by one of its rotation keys")
    func updates() async throws {
        try await Devnet.run { devnet in
            let subject = try await Subject(devnet)
            var content = subject.content
            content.alsoKnownAs = ["at://renamed.test"]
            let stranger = PrivateKey.generate(.k256)
            #expect(
                try await subject.message(PLCOperation(content, prev: subject.genesis.cid, signedBy: stranger)) == "Invalid signature on op"
            )
            let elsewhere = CID(hashing: [1])
            #expect(
                try await subject.message(PLCOperation(content, prev: elsewhere, signedBy: subject.weak))
                    == "Operations not correctly ordered")
            #expect(
                try await subject.message(PLCOperation(content, prev: nil, signedBy: subject.weak)) == "Operations not correctly ordered")
            #expect(try await HTTPCall.get(subject.url).json["alsoKnownAs"] == ["at://subject.test"])
            #expect(try await subject.submit(PLCOperation(content, prev: subject.genesis.cid, signedBy: subject.strong)) == 200)
            #expect(try await HTTPCall.get(subject.url).json["alsoKnownAs"] == ["at://renamed.test"])
            #expect(try await HTTPCall.get(subject.url + "/data").json["alsoKnownAs"] == ["at://renamed.test"])
        }
    }

    @Test("a key that an update took away signs nothing more")
    func removedKey() async throws {
        try await Devnet.run { devnet in
            let subject = try await Subject(devnet)
            var content = subject.content
            content.rotationKeys = [subject.strong.publicKey.didKey]
            let update = try PLCOperation(content, prev: subject.genesis.cid, signedBy: subject.strong)
            #expect(try await subject.submit(update) == 200)
            #expect(
                try await subject.message(PLCOperation(subject.content, prev: update.cid, signedBy: subject.weak))
                    == "Invalid signature on op")
            #expect(try await subject.submit(PLCOperation(subject.content, prev: update.cid, signedBy: subject.strong)) == 200)
        }
    }

    @Test("a stronger key undoes what a weaker one did for 72 hours, and not a millisecond longer", arguments: [0, 1] as [Int64])
    func recovery(late: Int64) async throws {
        let clock = StoppedClock()
        var configuration = DevnetConfiguration()
        configuration.clock = { clock.milliseconds }
        try await Devnet.run(configuration) { devnet in
            let subject = try await Subject(devnet)
            var taken = subject.content
            taken.rotationKeys = [subject.weak.publicKey.didKey]
            #expect(try await subject.submit(PLCOperation(taken, prev: subject.genesis.cid, signedBy: subject.weak)) == 200)
            let undone = try PLCOperation(subject.content, prev: subject.genesis.cid, signedBy: subject.strong)
            clock.milliseconds += 72 * 3_600_000 + late
            if late == 0 {
                #expect(try await subject.submit(undone) == 200)
                let audit = try #require(try await HTTPCall.get(subject.url + "/log/audit").json.arrayValue)
                #expect(audit.map { $0["nullified"] } == [false, true, false])
            } else {
                #expect(try await subject.message(undone)?.hasPrefix("Recovery operation occurred outside of the allowed 72 hr") == true)
                #expect(try await HTTPCall.get(subject.url + "/data").json["rotationKeys"] == [.string(subject.weak.publicKey.didKey)])
            }
        }
    }

    @Test("a key does not undo what it signed itself, nor what a stronger one did")
    func recoveryNeedsAStrongerKey() async throws {
        try await Devnet.run { devnet in
            for signer in [\Subject.weak, \.strong] {
                let subject = try await Subject(devnet)
                var content = subject.content
                content.alsoKnownAs = ["at://second.test"]
                let update = try PLCOperation(content, prev: subject.genesis.cid, signedBy: subject[keyPath: signer])
                #expect(try await subject.submit(update) == 200)
                for rival in [subject.weak, subject.strong] where signer == \.strong || rival === subject.weak {
                    content.alsoKnownAs = ["at://third.test"]
                    #expect(
                        try await subject.message(PLCOperation(content, prev: subject.genesis.cid, signedBy: rival))
                            == "Invalid signature on op")
                }
                #expect(try await HTTPCall.get(subject.url).json["alsoKnownAs"] == ["at://second.test"])
            }
        }
    }

    @Test("after a tombstone there is no document, the log remains, and nothing follows")
    func tombstone() async throws {
        try await Devnet.run { devnet in
            let subject = try await Subject(devnet)
            let tombstone = try PLCOperation(nil, prev: subject.genesis.cid, signedBy: subject.strong)
            #expect(try await subject.submit(tombstone) == 200)
            for path in ["", "/data"] {
                let answer = try await HTTPCall.get(subject.url + path)
                #expect(answer.status == 404)
                #expect(try answer.json == ["message": .string("DID not available: \(subject.genesis.derivedDID)")])
            }
            #expect(try await HTTPCall.get(subject.url + "/log").json == [subject.genesis.value, tombstone.value])
            #expect(
                try await subject.message(PLCOperation(subject.content, prev: tombstone.cid, signedBy: subject.strong))
                    == "Operations not correctly ordered")
        }
    }

    @Test("a tombstone is no beginning, and no update either without its predecessor")
    func tombstoneFirst() async throws {
        try await Devnet.run { devnet in
            let operation = try PLCOperation(nil, prev: CID(hashing: [1]), signedBy: .generate(.k256))
            let answer = try await HTTPCall.post("\(devnet.plcURL)/\(operation.derivedDID)", operation.value)
            #expect(answer.status == 400)
            #expect(try answer.json == ["message": "Operations not correctly ordered"])
        }
    }

    @Test("an operation with a field more, one less, one of another type, or in another form is no operation")
    func shapes() async throws {
        try await Devnet.run { devnet in
            let subject = try await Subject(devnet)
            let good = try #require(try PLCOperation(subject.content, prev: subject.genesis.cid, signedBy: subject.weak).value.mapValue)
            let signature = try #require(good["sig"]?.stringValue)
            var bad: [(String, ValueMap)] = good.map { name, _ in
                var map = good
                map.remove(name)
                return ("without \(name)", map)
            }
            bad += good.map { name, _ in
                var map = good
                map[name] = 1
                return ("a number as \(name)", map)
            }
            func changed(_ name: String, _ value: Value) -> ValueMap {
                var map = good
                map[name] = value
                return map
            }
            bad.append(("a field more", changed("more", 1)))
            bad.append(("another type", changed("type", "create")))
            bad.append(("a padded signature", changed("sig", .string(signature + "=="))))
            bad.append(("a signature in ordinary base64", changed("sig", .string(signature.dropLast(4) + "+/+/"))))
            bad.append(("prev that is no CID", changed("prev", "bafy")))
            bad.append(
                ("a rotation key of another kind", changed("rotationKeys", ["did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"])))
            bad.append(("a service with a field more", changed("services", ["x": ["type": "T", "endpoint": "e", "more": 1]])))
            for (name, map) in bad {
                let answer = try await HTTPCall.post(subject.url, .map(map))
                #expect(answer.status == 400, "\(name): \(answer.text)")
            }
            #expect(try await HTTPCall.post(subject.url, .map(good)).status == 200)
        }
    }

    @Test("the public directory's limits hold, on both sides")
    func limits() async throws {
        try await Devnet.run { devnet in
            let cases: [(String, (inout PLCOperation.Content, Int) -> Void, max: Int)] = [
                (
                    "rotationKeys",
                    { $0.rotationKeys = [$0.rotationKeys[0]] + (1..<$1).map { _ in PrivateKey.generate(.k256).publicKey.didKey } }, 5
                ),
                ("alsoKnownAs", { content, count in content.alsoKnownAs = (0..<count).map { "at://a\($0).test" } }, 10),
                ("a long alsoKnownAs", { $0.alsoKnownAs = [String(repeating: "a", count: $1)] }, 256),
                (
                    "services",
                    { content, count in
                        content.services = .init(uniqueKeysWithValues: (0..<count).map { ("s\($0)", .init(type: "T", endpoint: "e")) })
                    }, 10
                ),
                ("a long service id", { $0.services = [String(repeating: "s", count: $1): .init(type: "T", endpoint: "e")] }, 32),
                ("a long service type", { $0.services = ["s": .init(type: String(repeating: "T", count: $1), endpoint: "e")] }, 256),
                ("a long endpoint", { $0.services = ["s": .init(type: "T", endpoint: String(repeating: "e", count: $1))] }, 512),
                ("a long method id", { $0.verificationMethods = [String(repeating: "m", count: $1): $0.rotationKeys[0]] }, 32),
            ]
            for (name, change, max) in cases {
                for count in [max, max + 1] {
                    let subject = try await Subject(devnet)
                    var content = subject.content
                    change(&content, count)
                    let status = try await subject.submit(PLCOperation(content, prev: subject.genesis.cid, signedBy: subject.strong))
                    #expect(status == (count == max ? 200 : 400), "\(name): \(count)")
                }
            }
            let subject = try await Subject(devnet)
            var content = subject.content
            content.alsoKnownAs = ["at://twice.test", "at://twice.test"]
            #expect(
                try await subject.message(PLCOperation(content, prev: subject.genesis.cid, signedBy: subject.strong))
                    == "duplicate alsoKnownAs field")
        }
    }
}
