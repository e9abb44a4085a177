import Simulation
import Testing

@testable import Authorization

@Suite struct TextRecordsTests {
    private func records(_ server: DNSServer, milliseconds: Int = 3000) -> TextRecords {
        TextRecords(nameServer: .init(address: [127, 0, 0, 1], port: server.port), timeout: .milliseconds(milliseconds))
    }

    private func error(_ records: TextRecords, _ name: String = "_atproto.alice.example.com") async -> TextRecordsError? {
        do throws(TextRecordsError) {
            _ = try await records.records(of: name)
            return nil
        } catch {
            return error
        }
    }

    @Test("each TXT record is one string, its pieces joined, in the order of the answer")
    func pieces() async throws {
        let server = try DNSServer { question in
            #expect(DNSMessage.name(question) == "_atproto.alice.example.com")
            return DNSMessage.answer(to: question, [.txt("did=did:plc:", "abc"), .txt(""), .txt("v=spf1")])
        }
        #expect(try await records(server).records(of: "_atproto.alice.example.com") == ["did=did:plc:abc", "", "v=spf1"])
    }

    @Test("an alias on the way is passed over, and so is what is not UTF-8")
    func aliases() async throws {
        let server = try DNSServer { question in
            DNSMessage.answer(
                to: question, [.init(type: 5, data: [1, 97, 0xC0, 0x0C]), .init(type: 16, data: [2, 0xFF, 0xFE]), .txt("a")])
        }
        #expect(try await records(server).records(of: "a.example.com") == ["a"])
    }

    @Test("a name that does not exist, or has no such record, has none: that is an answer", arguments: [UInt8(3), 0])
    func none(code: UInt8) async throws {
        let server = try DNSServer { DNSMessage.answer(to: $0, code: code) }
        #expect(try await records(server).records(of: "a.example.com") == [])
    }

    @Test(
        "what cannot be a name is not asked for",
        arguments: ["", "a b.example", "ä.example", "a\u{0}.example", String(repeating: "a.", count: 126) + "aa"])
    func noName(name: String) async throws {
        let server = try DNSServer { DNSMessage.answer(to: $0, [.txt("a")]) }
        #expect(try await records(server).records(of: name) == [])
        #expect(server.questionCount == 0)
    }

    @Test("a server that fails or refuses is an error", arguments: [UInt8(2), 5])
    func failure(code: UInt8) async throws {
        let server = try DNSServer { DNSMessage.answer(to: $0, code: code) }
        #expect(await error(records(server)) == .serverFailed)
    }

    @Test("a server that is silent costs the timeout and no more")
    func silence() async throws {
        let server = try DNSServer { _ in nil }
        let start = ContinuousClock.now
        #expect(await error(records(server, milliseconds: 150)) == .timedOut)
        #expect(.milliseconds(140)...(.seconds(30)) ~= ContinuousClock.now - start)
    }

    @Test("a cut answer is asked for again over TCP, and taken from there")
    func truncated() async throws {
        let records = (0..<40).map { DNSMessage.Record.txt("record \($0) " + String(repeating: "a", count: 200)) }
        let server = try DNSServer {
            DNSMessage.answer(to: $0, isCut: true)
        } overTCP: {
            DNSMessage.answer(to: $0, records)
        }
        #expect(try await self.records(server).records(of: "a.example.com").count == 40)
    }

    @Test("a cut answer without the whole one behind it is an error")
    func truncatedForGood() async throws {
        let server = try DNSServer { DNSMessage.answer(to: $0, isCut: true, [.txt("did=did:plc:abc")]) }
        #expect(await error(records(server)) == .serverFailed)
    }

    @Test("an answer beyond the limit is refused")
    func huge() async throws {
        let records = (0..<200).map { _ in DNSMessage.Record.txt(String(repeating: "a", count: 255)) }
        let server = try DNSServer {
            DNSMessage.answer(to: $0, isCut: true)
        } overTCP: {
            DNSMessage.answer(to: $0, records)
        }
        #expect(await error(self.records(server)) == .malformed)
    }

    @Test("a message with less in it than it says is malformed")
    func malformed() async throws {
        let server = try DNSServer { Array(DNSMessage.answer(to: $0, [.txt("did=did:plc:abc")]).dropLast()) }
        #expect(await error(records(server)) == .malformed)
    }

    @Test("an answer to another question is not taken")
    func otherQuestion() async throws {
        let server = try DNSServer { question in
            var other = question
            other[13] ^= 1
            return DNSMessage.answer(to: other, [.txt("did=did:plc:abc")])
        }
        #expect(await error(records(server, milliseconds: 150)) == .timedOut)
    }

    @Test("of the questions beyond the threads as many wait as may, and the others are refused")
    func overload() async throws {
        let server = try DNSServer { _ in nil }
        let records = TextRecords(
            nameServer: .init(address: [127, 0, 0, 1], port: server.port), timeout: .milliseconds(700), threadsMax: 2, waitingMax: 3)
        let outcomes = await withTaskGroup(of: TextRecordsError?.self) { group in
            for number in 0..<10 { group.addTask { await error(records, "a\(number).example.com") } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(outcomes.filter { $0 == .timedOut }.count == 5)
        #expect(outcomes.filter { $0 == .overloaded }.count == 5)
    }

    @Test("many questions at a time each get their own answer")
    func sideBySide() async throws {
        let server = try DNSServer { DNSMessage.answer(to: $0, [.txt(DNSMessage.name($0))]) }
        let records = records(server)
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<100 {
                group.addTask {
                    let name = "a\(number).example.com"
                    #expect(await (try? records.records(of: name)) == [name])
                }
            }
        }
    }

    @Test("a damaged message gives records or an error, and never more than it holds")
    func damage() {
        var random = SeededGenerator(seed: TestFiles.seed)
        let question: [UInt8] = [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0] + [1, 97, 7] + [UInt8]("example".utf8) + [0, 0, 16, 0, 1]
        let whole = DNSMessage.answer(
            to: question, [.txt("did=did:plc:abc", "def"), .init(type: 5, data: [1, 97, 0xC0, 0x0C]), .txt("x")])
        #expect(TextRecordAnswer.records(in: whole[...]) == .success(["did=did:plc:abcdef", "x"]))
        for length in 0..<whole.count {
            #expect(TextRecordAnswer.records(in: whole[..<length]) == .failure(.malformed), "cut to \(length)")
        }
        for _ in 0..<20_000 {
            var damaged = whole
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                damaged[Int.random(in: 0..<damaged.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if case .success(let records) = TextRecordAnswer.records(in: damaged[...]) {
                #expect(records.reduce(0) { $0 + $1.utf8.count } < damaged.count, "seed \(TestFiles.seed)")
            }
        }
    }
}
