import ATProto
import Authorization
import Hummingbird
import NIOCore
import Simulation
import Testing

@testable import Server

@Suite("HTTP: the memory of JSON bodies", .timeLimit(.minutes(1)))
struct RequestBodiesTests {
    /// Bodies of at most 20 bytes; those of 10 are free.
    private let bodies = RequestBodies(limits: RequestBodies.Limits(freeBytes: 10, arrivingBytesMax: 50, workingBytesMax: 20))
    private let alice: Caller
    private let bob: Caller
    private let carol: Caller

    init() throws {
        alice = .user(try DID("did:plc:alice"))
        bob = .user(try DID("did:plc:bob"))
        carol = .appView(try DID("did:web:carol.example"))
    }

    /// A body that stops before its end, which comes when its gate is opened.
    private struct StalledBody: AsyncSequence, Sendable {
        let count: Int
        let hasCome = AsyncGate()
        let end = AsyncGate()

        struct AsyncIterator: AsyncIteratorProtocol {
            let body: StalledBody
            var isFirst = true

            mutating func next() async throws -> ByteBuffer? {
                if isFirst {
                    isFirst = false
                    return ByteBuffer(repeating: 0x20, count: body.count)
                }
                // Whoever asks for more has taken what came.
                body.hasCome.open()
                await body.end.wait()
                return nil
            }
        }

        func makeAsyncIterator() -> AsyncIterator { AsyncIterator(body: self) }
    }

    private func read(_ body: RequestBody, of caller: Caller?, length: Int? = nil) async throws -> Int {
        try await bodies.read(body, of: caller, length: length, bytesMax: 20) { $0.count }
    }

    /// The name of the refusal of so many bytes; nil where they were read.
    private func refusal(_ count: Int, of caller: Caller?) async throws -> String? {
        do {
            let body = RequestBody(buffer: ByteBuffer(repeating: 0x20, count: count))
            #expect(try await read(body, of: caller) == count)
            return nil
        } catch let error as XRPCError {
            return error.name
        }
    }

    @Test("a call without a credential has small bodies alone, and what its head says is too large is not read")
    func anonymous() async throws {
        #expect(try await refusal(10, of: nil) == nil)
        #expect(try await refusal(11, of: nil) == "PayloadTooLarge")
        #expect(try await refusal(20, of: alice) == nil)
        #expect(try await refusal(21, of: alice) == "PayloadTooLarge")
        for (caller, length) in [(nil, 11), (alice, 21)] as [(Caller?, Int)] {
            // Where it were read, this would never end.
            let body = StalledBody(count: 1)
            await #expect(throws: XRPCError.self) { try await read(RequestBody(asyncSequence: body), of: caller, length: length) }
        }
    }

    @Test("whoever stops in the middle of large bodies takes the caller's own share, and not all that there is")
    func shares() async throws {
        let (first, second) = (StalledBody(count: 20), StalledBody(count: 20))
        let ofAlice = Task { try await read(RequestBody(asyncSequence: first), of: alice) }
        await first.hasCome.wait()
        #expect(try await refusal(11, of: alice) == "RateLimitExceeded")
        #expect(try await refusal(10, of: alice) == nil, "small ones are free")
        #expect(try await refusal(20, of: bob) == nil)
        let ofBob = Task { try await read(RequestBody(asyncSequence: second), of: bob) }
        await second.hasCome.wait()
        #expect(try await refusal(11, of: carol) == "RateLimitExceeded", "50 bytes are all that there is")
        for caller in [carol, nil] { #expect(try await refusal(10, of: caller) == nil) }
        first.end.open()
        #expect(try await ofAlice.value == 20)
        for caller in [alice, carol] { #expect(try await refusal(20, of: caller) == nil) }
        second.end.open()
        #expect(try await ofBob.value == 20)
    }
}
