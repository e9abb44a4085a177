import ATProto
import Commands
import Engine
import EventLog
import Simulation
import Testing

/// The rules of the wire contract, section 4.1, on every way into a repo.
@Suite("Record rules")
struct RecordRuleTests {
    /// How a record gets into a repo, beside an import.
    enum Way: CaseIterable { case create, createWithFreshKey, update, put, putOver, batch }

    struct Case: Sendable, CustomTestStringConvertible {
        let name: String
        var collection: NSID = .post
        /// Makes the record out of one that keeps every rule.
        let record: @Sendable (Value) -> Value
        let refusal: Refusal
        var isImportable = true

        var testDescription: String { name }
    }

    private static let service = "did:web:stratos.example"

    private static func boundaries(_ names: String...) -> @Sendable (Value) -> Value {
        { $0.with("boundary", ["$type": "zone.stratos.boundary.defs#Domains", "values": .array(names.map { ["value": .string($0)] })]) }
    }

    private static func embed(_ embed: Value) -> @Sendable (Value) -> Value { { $0.with("embed", embed) } }

    private static func quote(_ uri: String) -> Value {
        ["uri": .string(uri), "cid": "bafyreib2rxk3rybk3aobmv5cjuql3bm2twh4jo5uxgf5kpqcsgz7soitae"]
    }

    static let posts: [Case] = [
        Case(name: "no boundary", record: { $0.with("boundary", nil) }, refusal: .invalidRecord("must have a boundary")),
        Case(name: "no boundaries in the boundary", record: boundaries(), refusal: .invalidRecord("must have a boundary")),
        Case(
            name: "a boundary without values", record: { $0.with("boundary", ["$type": "zone.stratos.boundary.defs#Domains"]) },
            refusal: .invalidRecord("must have a boundary")),
        Case(
            name: "a boundary that is a text", record: { $0.with("boundary", "did:web:stratos.example/engineering") },
            refusal: .invalidRecord("must have a boundary")),
        Case(
            name: "a boundary without a name",
            record: { $0.with("boundary", ["$type": "zone.stratos.boundary.defs#Domains", "values": [["name": "engineering"]]]) },
            refusal: .invalidRecord("a boundary must have a value")),
        Case(
            name: "a boundary of another service", record: boundaries("did:web:other.example/engineering"),
            refusal: .invalidRecord("Boundary 'did:web:other.example/engineering' does not belong to this service")),
        Case(
            name: "a boundary of a service whose name begins like ours", record: boundaries("\(service).evil/engineering"),
            refusal: .invalidRecord("Boundary '\(service).evil/engineering' does not belong to this service")),
        Case(
            name: "the service itself as a boundary", record: boundaries(service),
            refusal: .invalidRecord("Boundary '\(service)' does not belong to this service")),
        Case(
            name: "a second boundary of another service", record: boundaries("\(service)/engineering", "did:web:other.example/general"),
            refusal: .invalidRecord("Boundary 'did:web:other.example/general' does not belong to this service")),
        Case(
            name: "a boundary that is not allowed", record: boundaries("\(service)/secret"),
            refusal: .invalidRecord("Domain 'secret' is not allowed")),
        Case(
            name: "a bare boundary that is not allowed", record: boundaries("secret"),
            refusal: .invalidRecord("Domain 'secret' is not allowed")),
        Case(
            name: "a bare boundary", record: boundaries("engineering"),
            refusal: .serviceMismatch(boundary: "engineering", service: "(unqualified)", expected: service)),
        Case(
            name: "a reply to a public post", record: { $0.with("reply", reply(to: "at://did:plc:abc/app.bsky.feed.post/3lq")) },
            refusal: .invalidRecord("cannot reply to a non-stratos record")),
        Case(
            name: "a reply to what is no URI", record: { $0.with("reply", reply(to: "zone.stratos.feed.post")) },
            refusal: .invalidRecord("cannot reply to a non-stratos record")),
        Case(
            name: "a reply to nothing", record: { $0.with("reply", [:]) }, refusal: .invalidRecord("cannot reply to a non-stratos record")),
        Case(
            name: "a thread with a public root",
            record: {
                $0.with(
                    "reply",
                    reply(to: "at://did:plc:abc/zone.stratos.feed.post/3lq").with(
                        "root", quote("at://did:plc:abc/app.bsky.feed.post/3lq")))
            }, refusal: .invalidRecord("cannot have a non-stratos root")),
        Case(
            name: "a public post quoted",
            record: embed(["$type": "app.bsky.embed.record", "record": quote("at://did:plc:abc/app.bsky.feed.post/3lq")]),
            refusal: .invalidRecord("cannot embed bsky content")),
        Case(
            name: "a public post quoted beside media",
            record: embed([
                "$type": "app.bsky.embed.recordWithMedia",
                "record": ["$type": "app.bsky.embed.record", "record": quote("at://did:plc:abc/app.bsky.feed.post/3lq")],
                "media": ["$type": "app.bsky.embed.images", "images": []],
            ]), refusal: .invalidRecord("cannot embed bsky content")),
        Case(
            name: "a public post quoted within media",
            record: embed([
                "$type": "app.bsky.embed.recordWithMedia",
                "record": ["record": quote("at://did:plc:abc/zone.stratos.feed.post/3lq")],
                "media": ["media": ["record": quote("at://did:plc:abc/app.bsky.feed.generator/x")]],
            ]), refusal: .invalidRecord("cannot embed bsky content")),
        Case(
            name: "a public post quoted in capitals",
            record: embed(["$type": "app.bsky.embed.record", "record": quote("at://did:plc:abc/App.Bsky.feed.post/3lq")]),
            refusal: .invalidRecord("cannot embed bsky content")),
        Case(
            name: "a public post quoted by what is not quite a URI",
            record: embed(["$type": "app.bsky.embed.record", "record": quote("at://did:plc:abc/app.bsky.feed.post/a b")]),
            refusal: .invalidRecord("cannot embed bsky content")),
        Case(
            name: "a boundary that the author does not hold", record: boundaries("\(service)/engineering", "\(service)/design"),
            refusal: .forbiddenBoundary(denied: ["\(service)/design"], held: ["\(service)/engineering", "\(service)/general"])),
        // The first rule that is broken is the one that is said.
        Case(
            name: "a bare boundary, and a reply to a public post",
            record: { boundaries("engineering")($0).with("reply", reply(to: "at://did:plc:abc/app.bsky.feed.post/3lq")) },
            refusal: .invalidRecord("cannot reply to a non-stratos record")),
        Case(
            name: "a bare boundary, and a public post quoted",
            record: { boundaries("engineering")($0).with("embed", ["record": quote("at://did:plc:abc/app.bsky.feed.post/3lq")]) },
            refusal: .invalidRecord("cannot embed bsky content")),
        Case(
            name: "a boundary that is not held beside a bare one", record: boundaries("\(service)/design", "general"),
            refusal: .serviceMismatch(boundary: "general", service: "(unqualified)", expected: service)),
        Case(
            name: "the type of another collection", record: { $0.with("$type", "app.bsky.feed.post") },
            refusal: .invalidRecord("$type must be zone.stratos.feed.post")),
        Case(
            name: "a type that is no text", record: { $0.with("$type", 7) }, refusal: .invalidRecord("$type must be zone.stratos.feed.post")
        ),
        Case(
            name: "a record that is no object", record: { _ in "text" }, refusal: .invalidRecord("a record must be an object"),
            isImportable: false),
    ]

    static let others: [Case] = [
        Case(
            name: "another collection", collection: .named("app.bsky.feed.post"), record: { $0.with("$type", nil) },
            refusal: .invalidCollection),
        Case(
            name: "a collection whose name begins like ours", collection: .named("zone.stratosphere.post"),
            record: { $0.with("$type", nil) },
            refusal: .invalidCollection),
        Case(
            name: "an enrollment", collection: .named("zone.stratos.actor.enrollment"),
            record: { $0.with("$type", "zone.stratos.actor.enrollment") },
            refusal: .invalidRecord("an enrollment record is kept on the user's own server, not here")),
        Case(
            name: "a note of another service", collection: .note, record: { boundaries("did:web:other.example/engineering")($0).note },
            refusal: .serviceMismatch(
                boundary: "did:web:other.example/engineering", service: "did:web:other.example", expected: service)),
        Case(
            name: "a note in a bare boundary", collection: .note, record: { boundaries("engineering")($0).note },
            refusal: .serviceMismatch(boundary: "engineering", service: "(unqualified)", expected: service)),
        Case(
            name: "a note in a boundary that is not allowed", collection: .note, record: { boundaries("\(service)/secret")($0).note },
            refusal: .invalidRecord("Domain 'secret' is not allowed")),
        Case(
            name: "a note in a boundary that the author does not hold", collection: .note,
            record: { boundaries("\(service)/design")($0).note },
            refusal: .forbiddenBoundary(denied: ["\(service)/design"], held: ["\(service)/engineering", "\(service)/general"])),
        Case(
            name: "a note whose boundary has no values", collection: .note, record: { $0.note.with("boundary", ["$type": "x"]) },
            refusal: .invalidRecord("must have a boundary")),
    ]

    @Test("a record that breaks a rule is refused on every way in, whatever `validate` says", arguments: posts + others)
    func refused(_ rule: Case) async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice, ["engineering", "general"])
        let (key, standing) = (RecordKey.tid(1), RecordKey.tid(2))
        let good = it.deployment.post("good")
        let record = rule.record(good)
        if rule.collection == .post { try await it.deployment.write(it.alice, [.create(good, at: standing)]) }
        let head = try await it.log.head(of: it.alice)
        for way in Way.allCases {
            for checksLexicons in [nil, true, false] as [Bool?] {
                let found = try await refusal {
                    switch way {
                    case .create: try await write(it, [.create(record, in: rule.collection, at: key)], checksLexicons)
                    case .createWithFreshKey: try await write(it, [.create(record, in: rule.collection)], checksLexicons)
                    case .put: try await write(it, [.put(record, in: rule.collection, at: key)], checksLexicons)
                    case .update: try await write(it, [.update(record, in: rule.collection, at: standing)], checksLexicons)
                    case .putOver: try await write(it, [.put(record, in: rule.collection, at: standing)], checksLexicons)
                    case .batch:
                        try await write(
                            it, [.create(good, at: .tid(3)), .create(record, in: rule.collection, at: key), .delete(at: standing)],
                            checksLexicons)
                    }
                }
                #expect(found == rule.refusal, "\(way), validate \(checksLexicons.map(String.init) ?? "unset")")
            }
        }
        #expect(try await it.log.head(of: it.alice) == head, "nothing was written")
        if rule.isImportable { try await expectImportRefused(rule, record, it) }
    }

    private func write(_ it: Trial, _ writes: [RecordWrite], _ checksLexicons: Bool?) async throws {
        _ = try await it.engine.write(
            WriteRequest(repo: it.alice, writes: writes, checksLexicons: checksLexicons, agent: it.deployment.agent(it.alice)))
    }

    /// With one sound record beside it: none is imported.
    private func expectImportRefused(_ rule: Case, _ record: Value, _ it: Trial) async throws {
        try await it.deployment.enroll(it.carol, ["engineering", "general"])
        let record = record["$type"] == nil ? record.with("$type", .string(rule.collection.description)) : record
        let place = path(.tid(1), in: rule.collection)
        let found = try await refusal {
            try await it.importing([(path(.tid(2)), it.deployment.post("good")), (place, record)], into: it.carol)
        }
        #expect(found == .recordsRefused([RefusedRecord(path: place.description, reason: rule.refusal.reason)]))
        #expect(try await it.records(of: it.carol).isEmpty)
    }

    @Test("the refusals have the names and words of the wire")
    func words() {
        let foreign = Refusal.serviceMismatch(boundary: "engineering", service: "(unqualified)", expected: "did:web:s.example")
        #expect(foreign.name == "ServiceMismatch")
        #expect(foreign.reason == "Boundary \"engineering\" belongs to service (unqualified), not did:web:s.example")
        let denied = Refusal.forbiddenBoundary(denied: ["s/a", "s/b"], held: ["s/c", "s/d"])
        #expect(denied.name == "ForbiddenBoundary")
        #expect(denied.reason == "You do not have access to boundary domain(s): s/a, s/b. Your enrolled domains: s/c, s/d")
        #expect(
            Refusal.forbiddenBoundary(denied: ["s/a"], held: []).reason
                == "You do not have access to boundary domain(s): s/a. Your enrolled domains: (none)")
        #expect(Refusal.invalidCollection.name == "InvalidCollection")
        #expect(Refusal.invalidCollection.reason == "Only zone.stratos.* collections are supported")
        #expect(Refusal.notEnrolled.name == "NotEnrolled")
        #expect(Refusal.notEnrolled.reason == "User is not enrolled in this Stratos service")
        #expect(Refusal.recordNotFound.name == "RecordNotFound" && Refusal.recordNotFound.reason == "Record not found")
        #expect(Refusal.invalidRecord("x").name == "InvalidRecord" && Refusal.invalidSwap("x").name == "InvalidSwap")
        #expect(Refusal.repoAlreadyExists.name == "RepoAlreadyExists")
        #expect(Refusal.repoAlreadyExists.reason == "Repo already exists for this DID")
    }

    @Test("a service without boundaries takes no records at all")
    func notEnabled() async throws {
        let it = try await Trial { $0.domains = [] }
        try await it.deployment.enroll(it.alice)
        for record in [it.deployment.post("x"), it.deployment.post("x").with("boundary", nil)] {
            let found = try await refusal { try await it.deployment.write(it.alice, [.create(record)]) }
            #expect(found == .invalidRecord("Stratos namespace is not enabled on this service"))
        }
        let found = try await refusal { try await it.deployment.write(it.alice, [.create(["text": "x"], in: .note)]) }
        #expect(found == .invalidRecord("Stratos namespace is not enabled on this service"))
    }

    @Test("lexicons are checked where they are known, where they are asked for, and not at all")
    func lexicons() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        let long = it.deployment.post(String(repeating: "x", count: 3001))
        for checks in [nil, true] as [Bool?] {
            let found = try await refusal { try await write(it, [.create(long)], checks) }
            guard case .invalidRecord(let text) = found else {
                Issue.record("\(String(describing: found))")
                continue
            }
            #expect(text.contains("text"))
        }
        try await write(it, [.create(long)], false)
        // Nobody has described notes: they are taken unless a description is asked for.
        try await write(it, [.create(["text": "x"], in: .note)], nil)
        try await write(it, [.create(["text": "x"], in: .note)], false)
        #expect(try await refusal { try await write(it, [.create(["text": "x"], in: .note)], true) }?.name == "InvalidRecord")
        // A post's key is a TID, says its lexicon.
        #expect(
            try await refusal { try await write(it, [.create(it.deployment.post("x"), at: .named("self"))], nil) }?.name == "InvalidRecord")
        try await write(it, [.create(it.deployment.post("x"), at: .named("self"))], false)
    }

    @Test("a record gets the types that its writer left out, and its CID is that of what is stored")
    func types() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        let full = it.deployment.post("x")
        let bare = full.with("$type", nil).with("boundary", full["boundary"]?.with("$type", nil))
        let receipt = try await it.deployment.write(it.alice, [.create(bare, at: .tid(1))])
        #expect(receipt.results.first?.cid == CID(hashing: DAGCBOR.encode(full)))
        let read = try await it.engine.record(at: path(.tid(1)), of: it.alice, to: .user(it.alice))
        #expect(read?.content.value == full)
    }

    @Test("records of other collections may quote and answer what they like, and need no boundary")
    func notes() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        let note: Value = [
            "embed": ["record": Self.quote("at://did:plc:abc/app.bsky.feed.post/3lq")], "reply": reply(to: "https://example.com"),
        ]
        try await it.deployment.write(it.alice, [.create(note, in: .note), .create(note.with("boundary", ["values": []]), in: .note)])
    }

    // MARK: Replies

    @Test("a reply stays within its parent's boundaries, where its author can read the parent")
    func replies() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice, ["engineering", "general"])
        try await it.deployment.enroll(it.bob, ["engineering", "general"])
        try await it.deployment.write(it.alice, [.create(it.deployment.post("parent", in: ["engineering"]), at: .tid(1))])
        let answer = { (boundaries: [String]) in
            it.deployment.post("answer", in: boundaries).with("reply", reply(to: uri(.tid(1), of: it.alice)))
        }
        for boundaries in [["general"], ["engineering", "general"]] {
            let found = try await refusal { try await it.deployment.write(it.bob, [.create(answer(boundaries))]) }
            #expect(
                found
                    == .invalidRecord(
                        "Reply boundaries must be a subset of the parent's boundaries. Domains not in parent: \(it.deployment.boundary("general"))"
                    ))
        }
        let receipt = try await it.deployment.write(it.bob, [.create(answer(["engineering"]))])
        let against = try await it.state(of: it.bob).operations.last?.written?.against
        let parent = try #require(try await it.records(of: it.alice)[path(.tid(1))])
        let place = try ATURI(uri(.tid(1), of: it.alice))
        #expect(against == RecordOperation.Parent(uri: place, cid: parent, sequence: 2))
        #expect(receipt.isNew)
    }

    @Test("a parent that its reader may not see, or that is not there, is unknown: nothing is checked, nothing is said")
    func unknownParents() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice, ["engineering", "design"])
        try await it.deployment.enroll(it.bob, ["engineering", "general"])
        try await it.deployment.write(it.alice, [.create(it.deployment.post("hidden", in: ["design"]), at: .tid(1))])
        let parents = [
            uri(.tid(1), of: it.alice), uri(.tid(2), of: it.alice), uri(.tid(1), of: it.carol),
            "at://alice.example/zone.stratos.feed.post/\(RecordKey.tid(1))", "at://\(it.alice)/zone.stratos.feed.post",
        ]
        for parent in parents {
            let record = it.deployment.post("answer", in: ["engineering", "general"]).with("reply", reply(to: parent))
            try await it.deployment.write(it.bob, [.create(record)])
            #expect(try await it.state(of: it.bob).operations.last?.written?.against == nil, "\(parent)")
        }
    }

    @Test("within a batch a reply is judged by what the writes before it leave")
    func repliesInABatch() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice, ["engineering", "general"])
        let answer = it.deployment.post("answer", in: ["general"]).with("reply", reply(to: uri(.tid(1), of: it.alice)))
        let parent = { (boundary: String) in it.deployment.post("parent", in: [boundary]) }
        let wider = Refusal.invalidRecord(
            "Reply boundaries must be a subset of the parent's boundaries. Domains not in parent: \(it.deployment.boundary("general"))")
        #expect(
            try await refusal {
                try await it.deployment.write(it.alice, [.create(parent("engineering"), at: .tid(1)), .create(answer, at: .tid(2))])
            } == wider)
        let receipt = try await it.deployment.write(it.alice, [.create(parent("general"), at: .tid(1)), .create(answer, at: .tid(2))])
        let against = try await it.state(of: it.alice).operations.last?.written?.against
        #expect(against?.cid == receipt.results[0].cid && against?.sequence == 2, "the event is its own parent's")
        // Moved out of reach in the same batch, and then deleted in it.
        #expect(
            try await refusal {
                try await it.deployment.write(
                    it.alice, [.put(parent("engineering"), at: .tid(1)), .put(answer.with("text", "more"), at: .tid(2))])
            } == wider)
        try await it.deployment.write(it.alice, [.delete(at: .tid(1)), .put(answer.with("text", "more"), at: .tid(2))])
        #expect(try await it.state(of: it.alice).operations.last?.written?.against == nil)
    }

    @Test("a member who lost every boundary is told so")
    func noBoundariesLeft() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice, ["engineering"])
        try await it.deployment.append(
            { provenance, state in
                let after = BoundarySet.empty
                return .accountBoundaries(
                    AccountBoundaries(
                        provenance: provenance, before: state.boundaries, after: after,
                        attestation: try .sign(
                            did: it.alice, boundaries: after, actorKey: try #require(state.key), with: it.deployment.serviceKey)))
            }, to: it.alice)
        try await it.restart()
        let engineering = it.deployment.boundary("engineering")
        let found = try await refusal { try await it.deployment.write(it.alice, [.create(it.deployment.post("x"))]) }
        #expect(found == .forbiddenBoundary(denied: [engineering], held: []))
        try await it.expectSound()
    }
}

extension Value {
    /// The same as a record that no lexicon describes.
    fileprivate var note: Value { with("$type", "zone.stratos.test.note") }
}

extension SimulatedState {
    /// What every `repo.write` of the log did, in order.
    var operations: [RecordOperation] {
        bodies.flatMap { body -> [RecordOperation] in if case .repoWrite(let write) = body { write.operations } else { [] } }
    }
}
