import ATProto
import Foundation
import Simulation
import Testing

/// I12 at the moment when it matters: a boundary is taken away while many readers look, over real connections to the real program.
@Suite("HTTP: a boundary that is taken away")
struct BoundaryRemovalTests {
    private static let carol = "did:plc:carolcarolcarolcarolcaro"
    private static let password = "for this test"
    private static let rkey = "3lq2222222222"
    private static let text = "what only writers may read"
    private static let writers = "\(ServedDirectory.service)/writers"
    private static let general = "\(ServedDirectory.service)/general"
    private static let readers = 32

    /// A way to take the boundary from Bob, and the one to give it back.
    enum Way: String, CaseIterable, Sendable, CustomTestStringConvertible {
        case removeBoundary, setBoundaries, command

        var testDescription: String { rawValue }
    }

    /// The methods that cannot show a member anything of another's record, each with the reason. A method of the program that is
    /// neither here nor among the routes that the readers ask makes the test fail.
    private static let others: [String: String] = [
        "com.atproto.repo.createRecord": "writes", "com.atproto.repo.putRecord": "writes", "com.atproto.repo.deleteRecord": "writes",
        "com.atproto.repo.applyWrites": "writes", "zone.stratos.repo.importRepo": "writes",
        "zone.stratos.sync.subscribeRecords": "streams, which tell members nothing of others",
        "zone.stratos.server.listDomains": "the service's own boundaries", "zone.stratos.audit.listReads": "the caller's own receipts",
        "zone.stratos.admin.addBoundary": "administrators", "zone.stratos.admin.enroll": "administrators",
        "zone.stratos.admin.getRecord": "administrators", "zone.stratos.admin.listEnrollments": "administrators",
        "zone.stratos.admin.removeBoundary": "administrators", "zone.stratos.admin.setBoundaries": "administrators",
        "zone.stratos.admin.unenroll": "administrators", "zone.stratos.enrollment.unenroll": "ends the caller's own membership",
    ]

    private static func routes(uri: String) -> [ReadingRoute] {
        let repo = [("repo", Service.alice), ("collection", Service.post)]
        let did = [("did", Service.alice), ("collection", Service.post)]
        return [
            ReadingRoute("com.atproto.repo.getRecord", repo + [("rkey", rkey)], shows: .record),
            ReadingRoute("com.atproto.repo.getRecord", repo + [("rkey", rkey)], verb: "HEAD", shows: .record),
            ReadingRoute("com.atproto.repo.listRecords", repo, shows: .record),
            ReadingRoute("com.atproto.repo.listRecords", repo + [("limit", "1"), ("reverse", "true")], shows: .record),
            ReadingRoute("zone.stratos.repo.hydrateRecord", [("uri", uri)], shows: .record),
            ReadingRoute("zone.stratos.repo.hydrateRecords", input: ["uris": [.string(uri)]], shows: .record),
            ReadingRoute("com.atproto.sync.getRecord", did + [("rkey", rkey)], shows: .record),
            ReadingRoute("zone.stratos.identity.resolveEnrollments", [("did", Service.bob)], shows: .membership),
            ReadingRoute("zone.stratos.enrollment.status", [("did", Service.bob)], shows: .membership),
            ReadingRoute("zone.stratos.identity.resolveEnrollments", [("did", Service.alice)], shows: .nothing),
            ReadingRoute("zone.stratos.enrollment.status", [("did", Service.alice)], shows: .nothing),
            ReadingRoute("com.atproto.repo.describeRepo", [("repo", Service.alice)], shows: .nothing),
            ReadingRoute("com.atproto.sync.getLatestCommit", [("did", Service.alice)], shows: .nothing),
            ReadingRoute("com.atproto.sync.getRepo", [("did", Service.alice)], shows: .nothing),
            ReadingRoute("zone.stratos.sync.getRepo", [("did", Service.alice)], shows: .nothing),
        ]
    }

    /// The program with Alice's two posts, one for writers and one for all, and Carol, who never is a writer.
    private func served(_ way: Way) async throws -> (program: ProgramUnderTest, uri: String, cid: CID)? {
        guard let program = try ProgramUnderTest("a boundary taken away by \(way)") else { return nil }
        program.served.environment["STRATOS_ADMIN_PASSWORD"] = Self.password
        try await program.served.succeed("enroll", Service.alice)
        try await program.served.start()
        for (did, names) in [(Service.bob, ["general", "writers"]), (Self.carol, ["general"])] {
            let boundaries = names.map { Value.string("\(ServedDirectory.service)/\($0)") }
            #expect(try await administer(program, "enroll", ["did": .string(did), "boundaries": .array(boundaries)]) == 200)
        }
        // The other post comes later in the order of keys, so that it is not the first one of a page.
        let written = try await program.write(Self.text, as: Service.alice, in: "writers", at: Self.rkey)
        #expect(try await program.write("for all", as: Service.alice, at: "3lq2222222223").status == 200)
        let answer = try DataModelJSON.decode(written.body)
        return (program, try #require(answer["uri"]?.stringValue), try CID(try #require(answer["cid"]?.stringValue)))
    }

    private func administer(_ program: ProgramUnderTest, _ method: String, _ input: Value) async throws -> Int {
        let port = program.served.port
        let credential = "Basic " + Data("ines:\(Self.password)".utf8).base64EncodedString()
        let body = DataModelJSON.encode(input)
        return try await onThread {
            try HTTPConnection(port: port).ask(
                "POST", "/xrpc/zone.stratos.admin.\(method)",
                headers: [("Authorization", credential), ("Content-Type", "application/json")], body: body
            ).status
        }
    }

    /// Takes Bob's boundary away, or gives it back; in force when this returns.
    private func change(_ program: ProgramUnderTest, by way: Way, gives: Bool) async throws {
        let did = Value.string(Service.bob)
        switch way {
        case .removeBoundary:
            let method = gives ? "addBoundary" : "removeBoundary"
            #expect(try await administer(program, method, ["did": did, "boundary": .string(Self.writers)]) == 200)
        case .setBoundaries:
            let all = (gives ? [Self.general, Self.writers] : [Self.general]).map(Value.string)
            #expect(try await administer(program, "setBoundaries", ["did": did, "boundaries": .array(all)]) == 200)
        case .command: try await program.served.succeed("boundaries", gives ? "add" : "remove", Service.bob, "writers")
        }
    }

    @Test(
        "of requests sent after the answer that takes a boundary away none gets anything of the record, and before it every reader did; and back (I12)",
        .timeLimit(.minutes(1)), arguments: Way.allCases)
    func takenAway(by way: Way) async throws {
        guard let (program, uri, cid) = try await served(way) else { return }
        let routes = Self.routes(uri: uri)
        let port = program.served.port
        let denied = try await onThread {
            let connection = try HTTPConnection(port: port)
            return try routes.map { try $0.ask(over: connection, as: Self.carol) }
        }
        let judge = ReadingJudge(
            traces: [Array(Self.text.utf8), Array(cid.description.utf8), cid.bytes], boundary: Array(Self.writers.utf8), denied: denied)
        for (index, route) in routes.enumerated() where route.shows != .membership {
            #expect(judge.verdict(on: denied[index], of: route, at: index) == .denied, "Carol sees nothing at \(route.target)")
        }
        let readers = BoundaryReaders(Self.readers, port: port, as: Service.bob, routes: routes, judge: judge)
        var changes: [(began: ContinuousClock.Instant, answered: ContinuousClock.Instant)] = []
        let samples = try await readers.run {
            #expect(try await readers.lap())
            for gives in [false, true] {
                let began = ContinuousClock.now
                try await change(program, by: way, gives: gives)
                changes.append((began, .now))
                #expect(try await readers.lap())
            }
        }
        try await program.served.stop()
        let (taken, given) = (changes[0], changes[1])
        for (reader, samples) in samples.enumerated() {
            var seen: [String: Set<Int>] = [:]
            for sample in samples {
                let route = routes[sample.route]
                let phase =
                    sample.answered < taken.began
                    ? "before"
                    : sample.sent > taken.answered && sample.answered < given.began
                        ? "after" : sample.sent > given.answered ? "again" : "meanwhile"
                seen[phase, default: []].insert(sample.route)
                // What is under way while the boundary changes is judged by the one or by the other, and by nothing else.
                let allowed: [Verdict] =
                    route.shows == .nothing || phase == "after" ? [.denied] : phase == "meanwhile" ? [.shown, .denied] : [.shown]
                #expect(allowed.contains(sample.verdict), "reader \(reader), \(phase): \(route.verb) \(route.target): \(sample.verdict)")
            }
            for phase in ["before", "after", "again"] {
                #expect(seen[phase]?.count == routes.count, "reader \(reader) asked every route \(phase) the change")
            }
        }
    }

    @Test("every method of the program is one that the readers ask, or one that shows no record to a member")
    func everyRoute() async throws {
        let asked = Set(Self.routes(uri: "at://\(Service.alice)/\(Service.post)/\(Self.rkey)").map(\.method))
        let service = try await Service()
        for id in Lexicons.embedded.ids where Lexicons.embedded.method(id) != nil {
            let isThere = try await service.get(id.description).status != 501
            let isKnown = asked.contains(id.description) || Self.others[id.description] != nil
            #expect(!isThere || isKnown, "\(id) is a new method: let the readers ask it, or say why not")
        }
    }
}
