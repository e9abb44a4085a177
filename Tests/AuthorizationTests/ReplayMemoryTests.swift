import ATProto
import Authorization
import Testing

@Suite("What was used once")
struct ReplayMemoryTests {
    private let alice: DID
    private let bob: DID

    init() throws {
        alice = try DID("did:plc:alice")
        bob = try DID("did:plc:bob")
    }

    private func note(
        _ number: Int, in memory: ReplayMemory, of caller: DID?, expires: Int64 = 1000, now: Int64 = 0
    ) -> ReplayMemory.Outcome {
        memory.note(.init(issuer: "key", identifier: "\(number)", expires: expires), of: caller, now: now)
    }

    @Test("what was used is known, whoever brings it")
    func again() {
        let memory = ReplayMemory()
        #expect(note(1, in: memory, of: alice) == .first)
        for caller in [alice, bob, nil] { #expect(note(1, in: memory, of: caller) == .again) }
        #expect(note(2, in: memory, of: alice) == .first)
        #expect(memory.note(.init(issuer: "another", identifier: "1", expires: 1000), of: alice, now: 0) == .first)
    }

    @Test("a caller has a share, others are not concerned by it, and who is no caller has none")
    func share() {
        let memory = ReplayMemory(countMax: 100, shareMax: 3)
        for number in 0..<3 { #expect(note(number, in: memory, of: alice) == .first) }
        #expect(note(3, in: memory, of: alice) == .tooMany)
        #expect(note(2, in: memory, of: alice) == .again)
        #expect(note(3, in: memory, of: bob) == .first)
        for number in 10..<30 { #expect(note(number, in: memory, of: nil) == .first) }
        #expect(note(4, in: memory, of: alice) == .tooMany)
    }

    @Test("what has expired frees the caller's share, no sooner than all of its sixteen seconds have")
    func expiry() {
        let memory = ReplayMemory(countMax: 100, shareMax: 3)
        for number in 0..<3 { #expect(note(number, in: memory, of: alice, expires: 100) == .first) }
        #expect(note(3, in: memory, of: alice, now: 111) == .tooMany)
        for number in 3..<6 { #expect(note(number, in: memory, of: alice, now: 112) == .first) }
        #expect(note(6, in: memory, of: alice, now: 112) == .tooMany)
    }

    @Test("where all is full, what expires soonest is forgotten, with what it took of a share, and nobody is refused")
    func full() {
        let memory = ReplayMemory(countMax: 4, shareMax: 2)
        for number in 1...2 { #expect(note(number, in: memory, of: alice, expires: 100) == .first) }
        for number in 3...4 { #expect(note(number, in: memory, of: nil, expires: 300) == .first) }
        #expect(note(5, in: memory, of: alice) == .tooMany)
        #expect(note(6, in: memory, of: bob) == .first)
        for number in [3, 4] { #expect(note(number, in: memory, of: nil, expires: 300) == .again) }
        #expect(note(5, in: memory, of: alice) == .first, "the two that were forgotten were Alice's")
        #expect(note(1, in: memory, of: alice, expires: 100) == .first)
        for number in 10..<20 { #expect(note(number, in: memory, of: nil) == .first) }
    }
}
