import ATProto
import Foundation
import Simulation
import Synchronization
import Testing

/// `stratos follow`, the program, against a server whose every byte is the test's.
@Suite("stratos follow")
struct FollowTests {
    private struct Follow {
        let program: Program
        let server: RawServer
        let directory: TemporaryDirectory
        var cursorFile: String { directory.file("cursor.json") }

        init?(_ serve: @escaping @Sendable (StreamPeer) -> Void) throws {
            guard let program = Program.built else {
                TestFiles.note("skipped: the program is not built, so stratos follow was not tested")
                return nil
            }
            self.program = program
            server = try RawServer(stream: serve)
            directory = try TemporaryDirectory()
        }

        func arguments(_ more: String...) -> [String] {
            ["follow", "--service", server.origin, "--did", StreamSample.account.description] + more
        }

        var resuming: [String] { arguments("--cursor-file", cursorFile) }

        /// Runs the program in a shell's pipeline, and gives what the pipeline said and the program's own exit code.
        func pipe(into reader: String, environment: [String: String] = [:]) async throws -> (
            lines: [String], status: String, errors: String
        ) {
            let command = ([program.path] + resuming).map { "'\($0)'" }.joined(separator: " ")
            let outcome = try await Program(path: "/bin/bash").run(
                ["-c", "\(command) | \(reader); echo \"status ${PIPESTATUS[0]}\""],
                environment: environment.merging(["PATH": "/usr/bin:/bin"]) { own, _ in own }, timeout: .seconds(20))
            return (Array(outcome.lines.dropLast()), outcome.lines.last ?? "", outcome.errorText)
        }
    }

    /// Commits of one, two or three records each; after the last the server has nothing more to say.
    private static func serve(upTo last: UInt64, pausing milliseconds: UInt32 = 0) -> @Sendable (StreamPeer) -> Void {
        { peer in
            peer.accept()
            for sequence in stride(from: peer.cursor + 1, through: last, by: 1) {
                guard peer.send(message: commit(sequence)) else { return }
                if milliseconds > 0 { peer.connection.pause(milliseconds: milliseconds) }
            }
            while peer.receive() != nil {}
        }
    }

    private static func commit(_ sequence: UInt64) -> [UInt8] {
        let operations = (0...(sequence % 3)).map { StreamSample.create("k\(sequence)-\($0)", String(repeating: "x", count: 200)) }
        return StreamSample.frame("#commit", StreamSample.commit(sequence, rev: sequence, operations))
    }

    private static func paths(upTo last: UInt64) -> [String] {
        (1...last).flatMap { sequence in (0...(sequence % 3)).map { "\(StreamSample.post)/k\(sequence)-\($0)" } }
    }

    private func path(_ line: String) -> String? { (try? DataModelJSON.decode(Array(line.utf8)))?["path"]?.stringValue }

    @Test("a line is an operation with all that is needed of it; a deletion has no record, a membership its boundaries")
    func lines() async throws {
        guard
            let follow = try Follow({ peer in
                peer.accept()
                let operations = [StreamSample.create("a"), StreamSample.delete("b")]
                peer.send(message: StreamSample.frame("#commit", StreamSample.commit(7, rev: 7, operations)))
                peer.send(message: StreamSample.enrollment(9, "update"))
                peer.send(message: StreamSample.frame("#info", ["name": "OutdatedCursor", "message": "some is lost"]))
                peer.send(message: StreamSample.error("NotFound", "Account not found"))
                peer.close(code: 1008)
            })
        else { return }
        let outcome = try await follow.program.run(follow.arguments(), environment: ["STRATOS_FOLLOW_TOKEN": "hush-hush"])
        #expect(outcome.status == 1)
        let values = try outcome.lines.map { try DataModelJSON.decode(Array($0.utf8)) }
        try #require(values.count == 3)
        let record = StreamSample.record("text of a")
        #expect(
            values[0] == [
                "event": "create", "seq": 7, "did": .string(StreamSample.account.description), "time": .string(StreamSample.time),
                "rev": .string(StreamSample.rev(7).description), "path": "zone.stratos.feed.post/a",
                "uri": .string("at://\(StreamSample.account)/zone.stratos.feed.post/a"),
                "cid": .string(CID(hashing: DAGCBOR.encode(record)).description), "record": record,
            ])
        #expect(values[1]["event"] == "delete" && values[1]["record"] == nil && values[1]["cid"] == nil)
        #expect(values[2]["event"] == "update" && values[2]["boundaries"] == ["did:web:stratos.example.com/general"])
        #expect(outcome.errorText == "OutdatedCursor: some is lost\nerror: the service refused: NotFound: Account not found\n")
        #expect(!outcome.outputText.contains("hush") && !outcome.errorText.contains("hush"))
        #expect(follow.server.requests.first?.contains("syncToken=hush-hush") == true)
    }

    @Test("a reader that takes what it wants and goes is no error; the next run goes on with the line after, and none is lost")
    func readers() async throws {
        guard let follow = try Follow(Self.serve(upTo: 400)) else { return }
        var told: [String] = []
        for count in [1, 3, 40, 2, 150] {
            // The shell reads a pipe byte by byte, so it takes exactly the lines that it repeats.
            let reader = "{ for ((i = 0; i < \(count); i++)); do IFS= read -r line && printf '%s\\n' \"$line\"; done; }"
            let run = try await follow.pipe(into: reader)
            #expect(run.status == "status 0" && run.errors.isEmpty, "\(run.status) \(run.errors)")
            #expect(run.lines.count == count)
            told += run.lines.compactMap(path)
        }
        #expect(told == Array(Self.paths(upTo: 400).prefix(told.count)) && told.count == 196)
    }

    @Test("piped into head again and again, no line comes twice and their order is kept")
    func head() async throws {
        guard let follow = try Follow(Self.serve(upTo: 400)) else { return }
        var told: [String] = []
        for _ in 0..<5 {
            let run = try await follow.pipe(into: "head -n 7")
            #expect(run.status == "status 0" && run.errors.isEmpty, "\(run.status) \(run.errors)")
            #expect(run.lines.count == 7)
            told += run.lines.compactMap(path)
        }
        let order = Dictionary(uniqueKeysWithValues: Self.paths(upTo: 400).enumerated().map { ($1, $0) })
        let places = told.map { order[$0] ?? -1 }
        #expect(places.count == 35 && zip(places, places.dropFirst()).allSatisfy { $0 < $1 }, "\(places)")
    }

    @Test(
        "stopped with Ctrl-C or SIGTERM at any moment and gone on with, each line comes once, in order and whole",
        arguments: [SIGINT, SIGTERM])
    func signals(number: Int32) async throws {
        let seed = TestFiles.seed
        var generator = SeededGenerator(seed: seed)
        guard let follow = try Follow(Self.serve(upTo: 60, pausing: 1)) else { return }
        var output: [UInt8] = []
        let expected = Self.paths(upTo: 60)
        for run in 0..<30 {
            let running = try follow.program.start(follow.resuming)
            let wanted = run == 29 ? Int.max : Int.random(in: 1...6000, using: &generator)
            let before = output.count(where: { $0 == 10 })
            _ = try await running.waits(
                until: { $0.count >= wanted || $0.count(where: { $0 == 10 }) + before == expected.count }, within: .seconds(5))
            running.signal(number)
            let outcome = try await running.finish(within: .seconds(5))
            #expect(outcome.status == 0 && outcome.errors.isEmpty, "seed \(seed): \(outcome.status) \(outcome.errorText)")
            #expect(outcome.output.isEmpty || outcome.output.last == 10, "seed \(seed): a line was cut")
            output += outcome.output
            if output.count(where: { $0 == 10 }) >= expected.count { break }
        }
        #expect(String(decoding: output, as: UTF8.self).split(separator: "\n").compactMap { path(String($0)) } == expected, "seed \(seed)")
    }

    @Test("killed at any moment and gone on with, no line is lost; those that come twice were written since the last save")
    func kill() async throws {
        let seed = TestFiles.seed
        var generator = SeededGenerator(seed: seed)
        guard let follow = try Follow(Self.serve(upTo: 60, pausing: 2)) else { return }
        let expected = Self.paths(upTo: 60)
        var told: [String] = []
        for run in 0..<6 {
            let running = try follow.program.start(follow.resuming)
            let wanted = run == 5 ? Int.max : Int.random(in: 1...20_000, using: &generator)
            _ = try await running.waits(
                until: { output in
                    output.count >= wanted || String(decoding: output, as: UTF8.self).contains(expected[expected.count - 1])
                }, within: .seconds(10))
            running.signal(run == 5 ? SIGINT : SIGKILL)
            let outcome = try await running.finish(within: .seconds(5))
            // A kill may cut the last line.
            let lines = outcome.outputText.split(separator: "\n", omittingEmptySubsequences: false).dropLast().compactMap {
                path(String($0))
            }
            let place = expected.firstIndex(of: try #require(lines.first ?? expected.first)) ?? -1
            #expect(
                lines == Array(expected[place...].prefix(lines.count)), "seed \(seed), run \(run): the lines of a run follow each other")
            #expect(place <= told.count, "seed \(seed), run \(run): a line was lost")
            told = Array(expected.prefix(max(told.count, place + lines.count)))
        }
        #expect(told == expected, "seed \(seed)")
        #expect(try String(contentsOfFile: follow.cursorFile, encoding: .utf8).contains("\"cursor\":60"))
    }

    @Test(
        "a commit in parts is told once, though the connection breaks and the program is stopped within it", arguments: [0, 1] as [UInt64])
    func parts(less: UInt64) async throws {
        // Parts carry the number before the commit's own, or that of the commit before: two ways of services.
        let connections = Mutex(0)
        guard
            let follow = try Follow({ peer in
                peer.accept()
                let round = connections.withLock { count in
                    count += 1
                    return count
                }
                for part in 0..<6 {
                    let operations = (0..<50).map { StreamSample.create("p\(part)-\($0)") }
                    let number: UInt64 = part == 5 ? 9 : less == 0 ? 3 : 8
                    if peer.cursor < 9 {
                        peer.send(message: StreamSample.frame("#commit", StreamSample.commit(number, rev: 5, operations)))
                    }
                    if part == round { return }
                }
                while peer.receive() != nil {}
            })
        else { return }
        var told: [String] = []
        for run in 0..<5 where told.count < 300 {
            let running = try follow.program.start(
                run == 0 ? follow.arguments("--cursor", "3", "--cursor-file", follow.cursorFile) : follow.resuming)
            // A line at least: a program that has told nothing yet may not be ready to be stopped.
            let lines = max(1, min(300, 60 * (run + 1)) - told.count)
            _ = try await running.waits(until: { output in output.count(where: { $0 == 10 }) >= lines }, within: .seconds(30))
            running.signal(SIGINT)
            let outcome = try await running.finish(within: .seconds(5))
            #expect(outcome.status == 0, "\(outcome.errorText)")
            told += outcome.lines.compactMap(path)
        }
        #expect(told == (0..<6).flatMap { part in (0..<50).map { "\(StreamSample.post)/p\(part)-\($0)" } })
    }

    @Test("what is wrong with a call, a file or a service is said, with the exit code of its kind")
    func failures() async throws {
        guard let follow = try Follow({ $0.connection.respond(status: 404, body: []) }) else { return }
        func run(_ arguments: [String], _ environment: [String: String] = [:]) async throws -> (status: Int32, errors: String) {
            let outcome = try await follow.program.run(arguments, environment: environment)
            #expect(outcome.output.isEmpty)
            return (outcome.status, outcome.errorText)
        }
        #expect(try await run(["follow"]).status == 2)
        #expect(try await run(["follow", "--service", "http://stratos.example.com"]).status == 2)
        #expect(try await run(follow.arguments("--cursor", "9007199254740992")).status == 2)
        #expect(try await run(follow.arguments("--token", "x")).status == 2)
        #expect(try await run(follow.arguments(), ["STRATOS_FOLLOW_TOKEN": "two\nlines"]).status == 2)
        #expect(try await run(follow.arguments("--token-file", follow.directory.file("none"))).status == 3)
        let refused = try await run(follow.arguments())
        #expect(refused.status == 1 && refused.errors.contains("404"))
        let unreachable = try await run(["follow", "--service", "http://127.0.0.1:1"])
        #expect(unreachable.status == 3 && unreachable.errors == "error: nobody answers there\n")
        try Data("{\"service\":\"\(follow.server.origin)\",\"did\":\"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa\",\"cursor\":1}".utf8)
            .write(to: URL(filePath: follow.cursorFile))
        let other = try await run(follow.resuming)
        #expect(other.status == 2 && other.errors.contains("another stream"))
        try Data("{\"service\":\"\(follow.server.origin)\",\"did\":\"\(StreamSample.account)\",\"cursor\":-1}".utf8)
            .write(to: URL(filePath: follow.cursorFile))
        #expect(try await run(follow.resuming).status == 3)
    }

    @Test("a service that goes away is waited for, and the cursor file of a quiet stream is written within a second or so")
    func comesBack() async throws {
        let connections = Mutex(0)
        guard
            let follow = try Follow({ peer in
                let isFirst = connections.withLock { count in
                    count += 1
                    return count == 1
                }
                peer.accept()
                for sequence in (peer.cursor + 1)...(isFirst ? 2 : 4) { peer.send(message: StreamSample.single(sequence)) }
                if !isFirst { while peer.receive() != nil {} }
            })
        else { return }
        let running = try follow.program.start(follow.resuming)
        #expect(try await running.waits(until: { $0.count(where: { $0 == 10 }) == 4 }, within: .seconds(8)))
        let end = ContinuousClock.now + .seconds(4)
        while (try? String(contentsOfFile: follow.cursorFile, encoding: .utf8))?.contains("\"cursor\":4") != true, .now < end {
            try await Task.sleep(for: .milliseconds(10))
        }
        #expect(try String(contentsOfFile: follow.cursorFile, encoding: .utf8).contains("\"cursor\":4"))
        #expect(String(decoding: running.errorsSoFar, as: UTF8.self).contains("the connection broke; again in"))
        running.signal(SIGINT)
        #expect(try await running.finish().status == 0)
    }
}
