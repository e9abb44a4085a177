import ATProto
import Authorization
import Keys
import Simulation
import Testing

@Suite("OAuth: sessions")
struct OAuthSessionsTests {
    private let world = OAuthWorld()
    private static let token = FakeAccountServer.issuer + "/token"
    private static let put = FakeAccountServer.pds + "/xrpc/com.atproto.repo.putRecord"

    private func alice() throws -> DID { try DID(FakeAccountServer.alice) }
    private func collection() throws -> NSID { try NSID("zone.stratos.actor.enrollment") }
    private func key() throws -> RecordKey { try RecordKey("did:web:stratos.example.com") }

    private func write(_ sessions: OAuthSessions, _ value: Value = ["service": "x"]) async throws -> CID {
        try await sessions.records.put(value, collection(), key(), alice())
    }

    private func failure(_ sessions: OAuthSessions) async throws -> PDSError? {
        do { _ = try await write(sessions) } catch let error as PDSError { return error }
        return nil
    }

    @Test("records are put, listed and deleted in the account's name, with bytes and links as they are")
    func records() async throws {
        try await world.join()
        world.server.change { $0.nonce = "n1" }
        let value: Value = ["service": "https://stratos.example.com", "attestation": ["sig": .bytes([1, 2, 3])]]
        let cid = try await write(world.sessions, value)
        #expect(cid == CID(hashing: DAGCBOR.encode(value)))
        #expect(try await world.sessions.records.list(collection(), alice()) == [PDSRecord(key: key(), cid: cid, value: value)])
        try await world.sessions.records.delete(collection(), key(), alice())
        try await world.sessions.records.delete(collection(), key(), alice())
        #expect(try await world.sessions.records.list(collection(), alice()) == [])
        #expect(world.server.count(Self.put) == 2, "the nonce was learned once")
    }

    @Test("an access token is exchanged before it expires, and when the server takes it no longer")
    func refreshes() async throws {
        try await world.join()
        world.clock.advance(seconds: 869)
        _ = try await write(world.sessions)
        #expect(world.server.count(Self.token) == 1)
        world.clock.advance(seconds: 1)
        _ = try await write(world.sessions)
        #expect(world.server.count(Self.token) == 2, "with 30 seconds left")
        world.server.change { $0.access = [:] }
        _ = try await write(world.sessions)
        #expect(world.server.count(Self.token) == 3)
        #expect(try await world.sessions.holds(alice()))
    }

    @Test("of many who need another access token at once, one asks for it, and all have it")
    func single() async throws {
        try await world.join()
        world.server.change { $0.access = [:] }
        let world = world
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<40 { group.addTask { _ = try await write(world.sessions) } }
            try await group.waitForAll()
        }
        #expect(world.server.count(Self.token) == 2)
        #expect(world.reasons == [])
    }

    @Test("a server that takes no token of its own is asked for another once, and then it has refused")
    func stubborn() async throws {
        try await world.join()
        world.server.change { $0.answers[Self.put] = { _ in FakeAccountServer.unauthorized("invalid_token") } }
        #expect(try await failure(world.sessions) == .refused(status: 401, name: "invalid_token"))
        #expect(world.server.count(Self.put) == 2 && world.server.count(Self.token) == 2)
    }

    @Test("a refused refresh ends the session: it is recorded, and nobody asks again")
    func ended() async throws {
        try await world.join()
        world.server.change { state in
            state.access = [:]
            state.refresh = [:]
        }
        #expect(try await failure(world.sessions) == .sessionEnded)
        #expect(try await failure(world.sessions) == .sessionEnded)
        #expect(world.server.count(Self.token) == 2)
        #expect(world.reasons == ["RefreshRefused"])
        let stored = world.storage.session(of: try alice())
        #expect(stored == .ended(reason: "RefreshRefused", at: world.clock.now() / 1_000_000))
        #expect(try await !world.sessions.holds(alice()))
        #expect(try await failure(world.restarted()) == .sessionEnded, "after a start too")
        try await world.join()
        #expect(try await failure(world.sessions) == nil, "who comes back begins anew")
    }

    @Test("a token endpoint that fails ends nothing, and is asked again later")
    func unavailable() async throws {
        try await world.join()
        world.server.change { state in
            state.access = [:]
            state.answers[Self.token] = { _ in FakeAccountServer.response(503, [:], headers: .init(retryAfter: "7")) }
        }
        #expect(
            try await failure(world.sessions) == .unavailable(reason: "the server answered with status 503", after: .seconds(7)))
        #expect(try await world.sessions.holds(alice()))
        world.server.change { $0.answers[Self.token] = nil }
        #expect(try await failure(world.sessions) == nil)
    }

    @Test(
        "a process that ends between the server's exchange and our write: the old token is tried again, and where the server does not forgive, the record says what was lost",
        arguments: [true, false])
    func lost(forgives: Bool) async throws {
        try await world.join()
        world.server.change { state in
            state.access = [:]
            state.forgivesRepeats = forgives
        }
        // The first write says that a refresh is under way; the second, with the new tokens, never happens.
        world.storage.failWrite(after: 1)
        let error = try await failure(world.sessions)
        #expect(error == .unavailable(reason: "the sessions cannot be read or written here"))
        let after = world.restarted()
        #expect(try await failure(after) == (forgives ? nil : .sessionEnded))
        #expect(world.reasons == (forgives ? [] : ["LostRefresh"]))
        #expect(try await after.holds(alice()) == forgives)
    }

    @Test("what cannot be recorded is not sent: without the first write the refresh token stays good")
    func unrecorded() async throws {
        try await world.join()
        world.server.change { $0.access = [:] }
        world.storage.failWrite(after: 0)
        #expect(try await failure(world.sessions) != nil)
        #expect(world.server.count(Self.token) == 1)
        #expect(try await failure(world.sessions) == nil)
    }

    @Test("a refresh that brings another account's tokens, or unbound ones, ends the session", arguments: ["sub", "token_type", "scope"])
    func swapped(member: String) async throws {
        try await world.join()
        world.server.change { state in
            state.access = [:]
            state.changesTokens = { $0[member] = member == "sub" ? .string(FakeAccountServer.bob) : "Bearer" }
        }
        #expect(try await failure(world.sessions) == .sessionEnded)
        #expect(world.reasons == [["sub": "OtherSubject", "token_type": "NotBound", "scope": "ScopeTooSmall"][member]])
    }

    @Test("a refresh that brings neither a refresh token nor a scope leaves both as they were")
    func sparing() async throws {
        try await world.join()
        let refresh = world.server.state.withLock { $0.refresh[FakeAccountServer.alice] }
        world.server.change { state in
            state.access = [:]
            state.changesTokens = { answer in
                answer["refresh_token"] = nil
                answer["scope"] = nil
            }
        }
        #expect(try await failure(world.sessions) == nil)
        try await world.sessions.revoke(alice())
        #expect(world.server.state.withLock { $0.revoked } == [refresh])
    }

    @Test("a session that is given back is given back at its server, and forgotten here")
    func revoked() async throws {
        try await world.join()
        let refresh = world.server.state.withLock { $0.refresh[FakeAccountServer.alice] }
        world.server.change { $0.answers[FakeAccountServer.issuer + "/revoke"] = { _ in FakeAccountServer.response(500, [:]) } }
        await #expect(throws: PDSError.unavailable(reason: "the server answered with status 500")) {
            try await world.sessions.revoke(alice())
        }
        #expect(try await world.sessions.holds(alice()), "what its server does not know is still held")
        world.server.change { $0.answers = [:] }
        try await world.sessions.revoke(alice())
        #expect(world.server.state.withLock { $0.revoked } == [refresh])
        #expect(try await !world.sessions.holds(alice()))
        #expect(try await failure(world.sessions) == .noSession)
        try await world.sessions.revoke(alice())
    }

    @Test("a session that another takes the place of is given back, and where its server cannot be told the new one is kept all the same")
    func replaced() async throws {
        try await world.join()
        let first = world.server.state.withLock { $0.refresh[FakeAccountServer.alice] }
        try await world.join()
        #expect(world.server.state.withLock { $0.revoked } == [first])
        _ = try await write(world.sessions)
        world.server.change { $0.answers[FakeAccountServer.issuer + "/revoke"] = { _ in FakeAccountServer.response(500, [:]) } }
        let second = world.server.state.withLock { $0.refresh[FakeAccountServer.alice] }
        try await world.join()
        #expect(world.server.state.withLock { $0.revoked == [first] && $0.refresh[FakeAccountServer.alice] != second })
        _ = try await write(world.sessions)
    }

    @Test("a row opens under its own account and the service's own key alone, and shows nothing")
    func sealed() async throws {
        try await world.join()
        let row = try #require(world.storage.session(of: try alice()))
        let tokens = world.server.state.withLock { Array($0.access.keys) + Array($0.refresh.values) }
        for bytes in world.storage.bytes {
            for secret in tokens + [FakeAccountServer.pds] { #expect(!String(decoding: bytes, as: UTF8.self).contains(secret)) }
        }
        world.storage.set(row, of: try DID(FakeAccountServer.bob))
        #expect(try await !world.sessions.holds(DID(FakeAccountServer.bob)))
        #expect(try await !world.restarted(serviceKey: .generate(.k256)).holds(alice()))
        #expect(world.reasons == ["Unreadable", "Unreadable"])
        guard case .sealed(let bytes) = row else { return }
        for index in stride(from: 0, to: bytes.count, by: 7) {
            var changed = bytes
            changed[index] ^= 1
            world.storage.set(.sealed(changed), of: try alice())
            #expect(try await !world.sessions.holds(alice()), "byte \(index)")
        }
        world.storage.set(row, of: try alice())
        #expect(try await world.sessions.holds(alice()))
    }

    struct Answer: Sendable, CustomTestStringConvertible {
        let status: Int
        let body: Value
        var retryAfter: String?
        let error: PDSError

        var testDescription: String { "\(status) \(body)" }
    }

    @Test(
        "what a PDS answers is told apart: refused for good, or not now",
        arguments: [
            Answer(status: 400, body: ["error": "InvalidRequest"], error: .refused(status: 400, name: "InvalidRequest")),
            Answer(status: 403, body: ["error": "ScopeMissingError"], error: .refused(status: 403, name: "ScopeMissingError")),
            Answer(status: 401, body: ["error": "AccountTakedown"], error: .refused(status: 401, name: "AccountTakedown")),
            Answer(status: 404, body: ["error": "<b>\u{e9}"], error: .refused(status: 404, name: "unnamed")),
            Answer(status: 302, body: [:], error: .refused(status: 302, name: "unnamed")),
            Answer(
                status: 429, body: ["error": "RateLimitExceeded"], retryAfter: "30",
                error: .unavailable(reason: "the server answered with status 429", after: .seconds(30))),
            Answer(
                status: 429, body: [:], retryAfter: "Wed, 21 Oct 2026 07:28:00 GMT",
                error: .unavailable(reason: "the server answered with status 429")),
            Answer(status: 500, body: ["error": "x"], error: .unavailable(reason: "the server answered with status 500")),
            Answer(status: 502, body: [:], error: .unavailable(reason: "the server answered with status 502")),
            Answer(status: 200, body: ["uri": "x"], error: .unavailable(reason: "the server's answer is not what was asked for")),
        ])
    func classified(answer: Answer) async throws {
        try await world.join()
        world.server.change {
            $0.answers[Self.put] = { _ in
                FakeAccountServer.response(answer.status, answer.body, headers: .init(retryAfter: answer.retryAfter))
            }
        }
        #expect(try await failure(world.sessions) == answer.error)
        #expect(try await world.sessions.holds(alice()))
    }

    @Test("nobody's session is held who gave none")
    func none() async throws {
        #expect(try await !world.sessions.holds(alice()))
        #expect(try await failure(world.sessions) == .noSession)
    }
}

@Suite("OAuth: scopes")
struct OAuthScopeTests {
    @Test("a grant is enough in whatever form it lets both collections be written in every way")
    func forms() {
        let both = "repo:zone.stratos.actor.enrollment repo:zone.stratos.feed.post"
        for (scope, isEnough) in [
            (OAuthScope.requested, true), ("atproto repo:*", true), ("atproto transition:generic", true), (both, false), ("", false),
            ("atproto", false), ("atproto repo:zone.stratos.feed.post", false), ("atproto repo:zone.stratos.*", false),
            ("atproto repo?collection=zone.stratos.actor.enrollment&collection=zone.stratos.feed.post", true),
            ("atproto repo:zone.stratos.actor.enrollment repo:zone.stratos.feed.post?action=create&action=delete", false),
            (
                "atproto repo:zone.stratos.actor.enrollment repo:zone.stratos.feed.post?action=create "
                    + "repo:zone.stratos.feed.post?action=delete&action=update", true
            ),
            ("atproto repo:zone.stratos.actor.enrollment repo:zone.stratos.feed.post?unknown=1", false),
            ("transition:generic", false), ("atproto transition:email", false),
        ] {
            #expect(OAuthScope.isEnough(scope) == isEnough, "\(scope)")
        }
    }
}
