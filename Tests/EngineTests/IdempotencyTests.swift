import ATProto
import Commands
import Engine
import EventLog
import Keys
import Simulation
import Testing

@Suite("Idempotency keys")
struct IdempotencyTests {
    private static let create = NSID.named("com.atproto.repo.createRecord")
    private static let applyWrites = NSID.named("com.atproto.repo.applyWrites")

    /// The request that a server makes of these writes: its input is their text.
    private func client(_ key: String, _ writes: [RecordWrite], method: NSID = applyWrites) throws -> ClientRequest {
        let input = writes.map { write -> Value in
            [
                "action": .string("\(write.action)"), "collection": .string(write.collection.description),
                "rkey": .optional(write.recordKey), "record": write.record ?? .null,
            ]
        }
        return try ClientRequest(idempotencyKey: key, input: .array(input), method: method)
    }

    private func begin(_ backend: Backend = .memory) async throws -> Trial {
        let it = try await Trial(backend)
        try await it.deployment.enroll(it.alice)
        try await it.deployment.enroll(it.bob)
        return it
    }

    private func ask(_ it: Trial, _ key: String, _ writes: [RecordWrite]) async throws -> WriteReceipt {
        try await it.deployment.write(it.alice, writes, client: try client(key, writes))
    }

    private func expectRepeated(_ again: WriteReceipt, _ first: WriteReceipt, sourceLocation: SourceLocation = #_sourceLocation) {
        let expected = WriteReceipt(results: first.results, commit: first.commit, rev: first.rev, isNew: false, isRepeated: true)
        #expect(again == expected, "seed \(TestFiles.seed)", sourceLocation: sourceLocation)
    }

    @Test("the same request gets the same answer and makes no second event, also after a restart", arguments: Backend.allCases)
    func repeated(backend: Backend) async throws {
        let it = try await begin(backend)
        let writes = [RecordWrite.create(it.deployment.post("one")), .create(it.deployment.post("two")), .create(["n": 1], in: .note)]
        let first = try await ask(it, "key", writes)
        #expect(first.isNew)
        let head = try await it.log.head(of: it.alice)
        expectRepeated(try await ask(it, "key", writes), first)
        try await it.deployment.write(it.alice, [.create(it.deployment.post("three"))])
        try await it.restart()
        expectRepeated(try await ask(it, "key", writes), first)
        #expect(try await it.log.head(of: it.alice).sequence == head.sequence + 1)
        try await it.expectSound()
    }

    @Test("the same key with another input is refused, and with another key the request is another")
    func otherInput() async throws {
        let it = try await begin()
        _ = try await ask(it, "key", [.create(it.deployment.post("one"))])
        let found = try await refusal { try await ask(it, "key", [.create(it.deployment.post("two"))]) }
        #expect(found == .invalidRequest("this idempotency key was used for another input"))
        #expect(try await ask(it, "yek", [.create(it.deployment.post("one"))]).isNew)
        #expect(try await it.records(of: it.alice).count == 2)
    }

    @Test("caller, method and repo are scopes of their own")
    func scopes() async throws {
        let it = try await begin()
        let writes = [RecordWrite.create(it.deployment.post("one"))]
        var agents = [it.deployment.agent(it.alice), Agent(did: it.bob, credential: .appView)]
        agents.append(try Agent(administrator: "root"))
        for (repo, agent, method) in [
            (it.alice, agents[0], Self.create), (it.alice, agents[0], Self.applyWrites), (it.bob, agents[0], Self.create),
            (it.alice, agents[1], Self.create), (it.alice, agents[2], Self.create),
        ] {
            let request = WriteRequest(
                repo: repo, writes: writes, agent: agent, client: try client("key", writes, method: method))
            let first = try await it.engine.write(request)
            #expect(first.isNew)
            expectRepeated(try await it.engine.write(request), first)
        }
        // How the caller proved to be themselves is none: a token may have been renewed between two attempts.
        let request = WriteRequest(
            repo: it.alice, writes: writes, agent: Agent(did: it.alice, credential: .serviceAuth),
            client: try client("key", writes, method: Self.create))
        #expect(try await it.engine.write(request).isRepeated)
    }

    @Test("after seven days a key counts as none")
    func expiry() async throws {
        let it = try await begin()
        it.clock.setTick(0)
        let writes = [RecordWrite.put(it.deployment.post("one"), at: .tid(1))]
        let first = try await ask(it, "key", writes)
        let time = try #require(try await it.log.head(of: it.alice).time)
        it.clock.set((time.milliseconds + RequestRow.millisecondsMax) * 1000 - 1)
        expectRepeated(try await ask(it, "key", writes), first)
        it.clock.set((time.milliseconds + RequestRow.millisecondsMax) * 1000)
        let second = try await ask(it, "key", writes)
        #expect(second.isNew && second.commit != first.commit)
        // From now on the key is the second request's.
        expectRepeated(try await ask(it, "key", writes), second)
        #expect(try await refusal { try await ask(it, "key", [.delete(at: .tid(1))]) }?.name == "InvalidRequest")
    }

    @Test("a request that was refused is decided again")
    func refusedRequests() async throws {
        let it = try await begin()
        let writes = [RecordWrite.update(it.deployment.post("two"), at: .tid(1))]
        #expect(try await refusal { try await ask(it, "key", writes) } == .recordNotFound)
        try await it.deployment.write(it.alice, [.create(it.deployment.post("one"), at: .tid(1))])
        #expect(try await ask(it, "key", writes).isNew)
    }

    @Test("a request that came to nothing comes to nothing again, whatever was written meanwhile", arguments: Backend.allCases)
    func nothingToDo(backend: Backend) async throws {
        let it = try await begin(backend)
        let delete = [RecordWrite.delete(at: .tid(1))]
        let first = try await ask(it, "delete", delete)
        #expect(first.results == [.init(path: path(.tid(1)), cid: nil)])
        let created = try await it.deployment.write(it.alice, [.create(it.deployment.post("one"), at: .tid(1))])
        try await it.restart()
        expectRepeated(try await ask(it, "delete", delete), first)
        #expect(try await it.records(of: it.alice) == [path(.tid(1)): created.results[0].cid!], "what came later was not deleted")

        let put = [RecordWrite.put(it.deployment.post("one"), at: .tid(1))]
        let second = try await ask(it, "put", put)
        #expect(second.results == created.results)
        let updated = try await it.deployment.write(it.alice, [.update(it.deployment.post("two"), at: .tid(1))])
        expectRepeated(try await ask(it, "put", put), second)
        #expect(try await it.records(of: it.alice) == [path(.tid(1)): updated.results[0].cid!], "what came later was not overwritten")

        // Such an answer is an event without operations, whose commit has the tree as it was.
        let state = try await it.state(of: it.alice)
        let empty = state.bodies.compactMap { body in if case .repoWrite(let write) = body, write.operations.isEmpty { write } else { nil }
        }
        #expect(empty.count == 2 && empty.allSatisfy { $0.provenance.request != nil })
        #expect(empty[1].commit.data == state.commits[2].data && empty[1].commit.rev > state.commits[2].rev)
        try await it.expectSound()
    }

    @Test("a batch of which some writes change nothing is answered as it was, write by write")
    func mixedBatches() async throws {
        let it = try await begin()
        try await it.deployment.write(
            it.alice, [.create(it.deployment.post("same"), at: .tid(1)), .create(["n": 1], in: .note, at: .named("same"))])
        let pieces: [RecordWrite] = [
            .put(it.deployment.post("same"), at: .tid(1)), .delete(at: .tid(7)), .create(it.deployment.post("fresh")),
            .put(it.deployment.post("new"), at: .tid(2)), .put(["n": 1], in: .note, at: .named("same")), .create(["n": 2], in: .note),
            .create(it.deployment.post("fresher")), .delete(in: .note, at: .named("absent")),
        ]
        var generator = SeededGenerator(seed: TestFiles.seed)
        for round in 0..<12 {
            // Each time in another order, and with other content where it is to change something.
            let writes = pieces.shuffled(using: &generator).map { write in
                guard let text = write.record?["text"], text == "new" else { return write }
                return RecordWrite.put(it.deployment.post("new \(round)"), at: .tid(2))
            }
            let first = try await ask(it, "round-\(round)", writes)
            #expect(first.results.count == writes.count)
            expectRepeated(try await ask(it, "round-\(round)", writes), first)
            for (write, result) in zip(writes, first.results) {
                #expect(write.recordKey == nil || write.recordKey == result.path.recordKey)
                #expect((result.cid == nil) == (write.action == .delete))
            }
        }
        try await it.expectSound()
    }

    @Test("two at once with one key are one")
    func atOnce() async throws {
        let it = try await begin(.sqlite)
        let writes = [RecordWrite.create(it.deployment.post("one"))]
        let request = WriteRequest(
            repo: it.alice, writes: writes, agent: it.deployment.agent(it.alice), client: try client("key", writes))
        let engine = it.engine
        let receipts = try await withThrowingTaskGroup { group in
            for _ in 0..<16 { group.addTask { try await engine.write(request) } }
            return try await group.reduce(into: [WriteReceipt]()) { $0.append($1) }
        }
        #expect(receipts.count(where: \.isNew) == 1 && receipts.count(where: \.isRepeated) == 15)
        #expect(Set(receipts.map(\.commit)).count == 1 && Set(receipts.map(\.results)).count == 1)
        #expect(try await it.log.head(of: it.alice).sequence == 2)
    }

    @Test("an event says nothing of a request without operations, unless there was one")
    func emptyBodies() throws {
        let key = PrivateKey.generate(.p256)
        let did = SimulatedDeployment.actor(1)
        let commit = try ActorCommit.sign(did: did, rev: TID(microseconds: 1, clockID: 1), data: MST().root(), with: key)
        let client = try client("key", [])
        let agent = Agent(did: did, credential: .dpop)
        let salt = [UInt8](repeating: 1, count: 32)
        let asked = EventBody.repoWrite(
            RepoWrite(provenance: Provenance(salt: salt, by: agent, request: client), operations: [], commit: commit))
        #expect(try EventBody(kind: .repoWrite, bytes: asked.encoded()) == asked)
        guard case .map(var fields) = try DAGCBOR.decode(asked.encoded()) else { return }
        fields["request"] = nil
        let bytes = DAGCBOR.encode(.map(fields))
        #expect(throws: EventLogError.self) { try EventBody(kind: .repoWrite, bytes: bytes) }
    }

    @Test("a row of a request that names no event of the log, or the 0th, is damage and said to be")
    func rowWithoutEvent() async throws {
        for sequence: UInt64 in [0, 99] {
            let it = try await Trial()
            try await it.deployment.enroll(it.alice)
            let client = try ClientRequest(idempotencyKey: "key", input: "x", method: .named("com.atproto.repo.createRecord"))
            let scope = RequestRow.scope(actor: it.alice, by: it.deployment.agent(it.alice), request: client)
            let state = try await it.state(of: it.alice)
            let read = AdminRead(
                provenance: Provenance(salt: [UInt8](repeating: 1, count: 32), by: try Agent(administrator: "root")),
                uri: path(.tid(1)).uri(of: it.alice), cid: nil, reason: "r")
            let event = try SignedEvent.sign(
                .adminRead(read), after: state.head, of: it.alice, time: state.head.nextTime(now: Timestamp(milliseconds: 0)),
                with: SignedEvent.Signing(keyEpoch: 1, key: it.deployment.serviceKey, tagKey: state.tagKey))
            let row = RequestRow(
                scope: scope, input: client.input, sequence: sequence, time: Timestamp(milliseconds: it.clock.now() / 1000))
            _ = try await it.log.append(Append(actor: it.alice, after: state.head, events: [event], request: row))
            await #expect(throws: EventLogError.brokenChain(actor: it.alice, at: sequence)) {
                try await it.deployment.write(it.alice, [.create(it.deployment.post("x"))], client: client)
            }
        }
    }
}

extension Value {
    fileprivate static func optional(_ key: RecordKey?) -> Value { key.map { .string($0.description) } ?? .null }
}
