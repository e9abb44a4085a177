import ATProto
import EventLog
import Foundation
import Keys
import SQLiteStore
import Simulation
import Testing

/// The program's commands on a log, as whoever runs them sees them: exit status, the two outputs, JSON and text.
/// Without a built program beside the tests each of them is skipped, by name.
@Suite("The program's log commands", .enabled(if: Program.built != nil, "no program was built beside the tests"))
struct LogCommandTests {
    private let seed = TestFiles.seed
    private let directory: TemporaryDirectory
    private let recorded: RecordedLog

    init() async throws {
        directory = try TemporaryDirectory()
        var sample = try LogSample(seed: seed, directory: directory.path)
        try await sample.begin()
        // Opening looks at the last 64 events itself: those below are `verify`'s to judge.
        try await sample.appendSome(70)
        try sample.close()
        recorded = sample.recorded
    }

    private func run(
        _ arguments: String..., json: Bool = true, environment: [String: String] = [:], on path: String? = nil
    ) async throws -> Program.Outcome {
        let program = try #require(Program.built)
        let data = ["--data-dir", path ?? directory.path] + (json ? ["--json"] : [])
        return try await program.run(arguments + data, environment: environment)
    }

    private func values(_ outcome: Program.Outcome) throws -> [Value] {
        try outcome.lines.map { try DataModelJSON.decodePlain(Array($0.utf8)) }
    }

    /// What a line says of an event.
    private func line(_ stored: StoredEvent) throws -> Value {
        let event = try Event(bytes: stored.bytes)
        return [
            "actor": .string(event.did.description), "seq": .integer(Int64(event.sequence)), "position": .integer(Int64(stored.position!)),
            "time": .string(event.time.description), "kind": .string(event.kind.description), "cid": .string(stored.cid.description),
            "prev": event.prev.map { .string($0.description) } ?? .null,
        ]
    }

    /// `{error, message}` and nothing else on standard output.
    private func expectError(_ outcome: Program.Outcome, _ status: Int32, _ name: String, _ what: String) throws {
        let values = try values(outcome)
        #expect(outcome.status == status && values.count == 1, "\(what): \(outcome.status) \(outcome.outputText)")
        #expect(values.first?["error"]?.stringValue == name, "\(what): \(outcome.outputText)")
        #expect(values.first?["message"]?.stringValue?.isEmpty == false, "\(what)")
        #expect(values.first?.mapValue?.count == 2, "\(what)")
    }

    /// A log that cannot be opened: `verify` names what is wrong with it, and every other command cannot do its work.
    private func expectRefusal(_ outcome: Program.Outcome, of command: [String], _ what: String) throws {
        guard command == ["verify"] else { return try expectError(outcome, 3, "LogRefused", what) }
        try expectProblem(outcome, "log.sqlite", what)
    }

    /// One problem of a log of which no event was read.
    private func expectProblem(_ outcome: Program.Outcome, _ file: String, invariant: String? = nil, _ what: String) throws {
        let value = try #require(try values(outcome).first)
        #expect(outcome.status == 1 && outcome.lines.count == 1, "\(what): \(outcome.status) \(outcome.outputText)")
        #expect(value["ok"] == false && value["events"] == 0, "\(what): \(outcome.outputText)")
        let problems = try #require(value["problems"]?.arrayValue)
        let problem = try #require(problems.first)
        #expect(problems.count == 1 && problem["file"]?.stringValue == file, "\(what): \(problems)")
        #expect(Set(problem.mapValue!.map { $0.key }) == ["actor", "seq", "position", "file", "invariant", "message"])
        #expect(problem["message"]?.stringValue?.isEmpty == false, "\(what): \(problems)")
        if let invariant { #expect(problem["invariant"]?.stringValue == invariant, "\(what): \(problems)") }
        #expect(outcome.errorText.contains("ProblemsFound"), "\(what): \(outcome.errorText)")
    }

    /// Runs the program from a shell, whose script calls it as `"$@"`.
    private func shell(
        _ script: String, _ arguments: [String], environment: [String: String] = [:]
    ) async throws -> Program.Outcome {
        let program = try #require(Program.built)
        var environment = environment
        environment["PATH"] = "/usr/bin:/bin"
        return try await Program(path: "/bin/sh").run(["-c", script, "sh", program.path] + arguments, environment: environment)
    }

    @Test("log show gives an actor's events, one a line, from any number on, and no more than asked for")
    func show() async throws {
        for actor in recorded.actors {
            let all = try recorded.logs[actor]!.map(line)
            let outcome = try await run("log", "show", actor.description)
            #expect(outcome.status == 0 && outcome.errorText == "", "\(outcome.errorText)")
            #expect(try values(outcome) == all, "seed \(seed)")
            let part = try values(try await run("log", "show", actor.description, "--after", "1", "--limit", "2"))
            #expect(part == Array(all.dropFirst().prefix(2)))
        }
        let actor = recorded.actors[0].description
        #expect(try values(try await run("log", "show", actor, "--after", "\(UInt64.max)")) == [])
        let text = try await run("log", "show", actor, "--limit", "1", json: false)
        #expect(text.status == 0 && text.outputText.contains("seq: 1\n") && text.outputText.contains("prev: –"), "\(text.outputText)")
    }

    @Test("log tail gives the last events of all in order, log stats the counts")
    func tailAndStatistics() async throws {
        let all = try recorded.events.map(line)
        #expect(try values(try await run("log", "tail")) == Array(all.suffix(20)), "seed \(seed)")
        #expect(try values(try await run("log", "tail", "-n", "3")) == Array(all.suffix(3)))
        #expect(try values(try await run("log", "tail", "-n", "0")) == [])
        #expect(try values(try await run("log", "tail", "-n", "5000")) == all)
        let statistics = try #require(try values(try await run("log", "stats")).first)
        #expect(Set(statistics.mapValue!.map { $0.key }) == ["events", "actors", "bytes", "head"])
        #expect(statistics["events"] == .integer(Int64(all.count)) && statistics["head"] == .integer(Int64(all.count)))
        #expect(statistics["actors"] == .integer(Int64(recorded.actors.count)))
        let image = try LogImage(of: directory.path)
        #expect(statistics["bytes"] == .integer(Int64(image.byteCount(.log))))
        let text = try await run("log", "stats", json: false)
        #expect(text.status == 0 && text.lines.contains("events: \(all.count)"), "\(text.outputText)")
    }

    @Test("verify of a whole log ends with 0, of all and of one actor, with signatures and without")
    func whole() async throws {
        let outcome = try await run("verify")
        #expect(outcome.status == 0 && outcome.errorText == "")
        let all = Int64(recorded.events.count)
        #expect(try values(outcome) == [["ok": true, "events": .integer(all), "problems": []]], "seed \(seed)")
        #expect(try values(try await run("verify", "--no-signatures")) == [["ok": true, "events": .integer(all), "problems": []]])
        let actor = try #require(recorded.actors.first { $0.description.hasPrefix("did:plc") })
        let service = try #require(recorded.actors.first { $0.description.hasPrefix("did:web") })
        let events = Int64(recorded.logs[actor]!.count + recorded.logs[service]!.count)
        let one = try await run("verify", "--actor", actor.description)
        #expect(one.status == 0)
        #expect(try values(one) == [["ok": true, "events": .integer(events), "problems": []]])
        let text = try await run("verify", json: false)
        #expect(text.status == 0 && text.lines == ["ok: true", "events: \(all)", "problems: none"], "\(text.outputText)")
    }

    @Test("verify names what it finds and ends with 1; without signatures it does not look at them")
    func problems() async throws {
        var image = try LogImage(of: directory.path)
        let stored = recorded.events[3]
        let body = try #require(stored.body)
        let places = image[.log]!.ranges(of: body)
        #expect(!places.isEmpty)
        for place in places { image.flip((place.lowerBound + 8) * 8, of: .log) }
        try image.write(to: directory.path)
        let outcome = try await run("verify")
        let value = try #require(try values(outcome).first)
        #expect(outcome.status == 1 && value["ok"] == false, "\(outcome.outputText)")
        let problems = try #require(value["problems"]?.arrayValue)
        #expect(problems.contains { $0["position"] == .integer(Int64(stored.position!)) && $0["file"] == "log.sqlite" }, "\(problems)")
        for problem in problems {
            #expect(Set(problem.mapValue!.map { $0.key }) == ["actor", "seq", "position", "file", "invariant", "message"])
        }
        // What was found stands on standard output; that something was found is the status, and a word on the other output.
        #expect(outcome.lines.count == 1 && outcome.errorText.contains("ProblemsFound"), "\(outcome.errorText)")
        #expect(try await run("verify", json: false).status == 1)
        try expectError(try await run("log", "show", "\(try Event(bytes: stored.bytes).did)"), 3, "LogFailed", "a damaged event")
    }

    @Test("an actor without a log is refused with 1")
    func strangers() async throws {
        let stranger = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
        try expectError(try await run("log", "show", stranger), 1, "NotEnrolled", "log show")
        try expectError(try await run("verify", "--actor", stranger), 1, "NotEnrolled", "verify")
        let text = try await run("log", "show", stranger, json: false)
        #expect(text.status == 1 && text.outputText == "" && text.errorText.contains("not enrolled"))
    }

    @Test("a command called wrongly ends with 2 and says why, as JSON where JSON was asked for")
    func usage() async throws {
        let program = try #require(Program.built)
        let did = recorded.actors[0].description
        for arguments in [
            ["log", "show"], ["log", "show", "nobody"], ["log", "show", did, "--limit", "0"], ["log", "show", did, "--limit", "-1"],
            ["log", "show", did, "--after", "-1"], ["log", "show", did, "--after", "one"], ["log", "tail", "-n", "-1"], ["log", "nothing"],
            ["log", "stats", "more"], ["verify", "--actor", "nobody"], ["verify", "--unknown"], ["nothing"], ["--nothing"],
        ] {
            let text = try await program.run(arguments + ["--data-dir", directory.path])
            #expect(text.status == 2 && text.outputText == "" && !text.errorText.isEmpty, "\(arguments): \(text.status) \(text.errorText)")
            try expectError(try await program.run(arguments + ["--json"]), 2, "InvalidArguments", "\(arguments)")
        }
        try expectError(try await run("log", "stats", environment: ["STRATOS_PORT": "high"]), 2, "InvalidSetting", "a setting")
        let help = try await program.run(["log", "--help"])
        #expect(help.status == 0 && help.outputText.contains("tail"))
    }

    @Test("what could not be done ends with 3: no log, a lost one, a refused one, a directory that is in use; verify names the problem")
    func impossible() async throws {
        for command in [["log", "stats"], ["log", "tail"], ["verify"], ["log", "show", recorded.actors[0].description]] {
            let program = try #require(Program.built)
            func run(on path: String) async throws -> Program.Outcome {
                try await program.run(command + ["--json", "--data-dir", path])
            }
            let empty = try TemporaryDirectory()
            try expectError(try await run(on: empty.path), 3, "NoLog", "no log")
            try expectError(try await run(on: empty.path + "/nowhere"), 3, "NoLog", "no directory")
            #expect(try FileManager.default.contentsOfDirectory(atPath: empty.path) == [])

            let lock = try DirectoryLock(directory: directory.path)
            try expectError(try await run(on: directory.path), 3, "LogRefused", "in use")
            lock.release()

            var image = try LogImage(of: directory.path)
            image[.log] = nil
            try image.write(to: empty.path)
            try expectRefusal(try await run(on: empty.path), of: command, "lost")
            image[.log] = [UInt8](repeating: 1, count: 4096)
            try image.write(to: empty.path)
            try expectRefusal(try await run(on: empty.path), of: command, "no log at all")
            #expect(try LogImage(of: empty.path) == image)
        }
        let text = try await run("verify", json: false, on: directory.path + "/nowhere")
        #expect(text.status == 3 && text.outputText == "" && text.errorText.contains("holds no log"))
    }

    @Test("verify names what keeps a log from being opened, and leaves it as it is")
    func unopened() async throws {
        let whole = try LogImage(of: directory.path)
        let losses: [(lost: LogImage.File, bytes: [UInt8]?, file: String, invariant: String)] = [
            (.mark, nil, "log.mark", "storage"), (.log, [], "log.sqlite", "I6"),
        ]
        for (lost, bytes, file, invariant) in losses {
            var image = whole
            image[lost] = bytes
            try image.write(to: directory.path)
            try expectProblem(try await run("verify"), file, invariant: invariant, "\(lost)")
            let text = try await run("verify", json: false)
            #expect(text.status == 1 && text.errorText == "error: 1 problem was found\n", "\(text.errorText)")
            #expect(Array(text.lines.prefix(4)) == ["ok: false", "events: 0", "problems:", "  -"], "\(text.outputText)")
            #expect(text.lines.contains("    file: \(file)"), "\(text.outputText)")
            #expect(try LogImage(of: directory.path) == image)
        }
    }

    @Test("output that is lost ends with 3, whatever was to be said")
    func lostOutput() async throws {
        let actor = recorded.actors[0].description
        for command in [["verify"], ["log", "show", actor], ["log", "tail"], ["log", "stats"], ["keygen"]] {
            let data = command == ["keygen"] ? [] : ["--data-dir", directory.path]
            for form: [String] in [[], ["--json"]] {
                let outcome = try await shell(#""$@" > /dev/full"#, command + data + form)
                #expect(outcome.status == 3 && outcome.outputText == "", "\(command): \(outcome.status) \(outcome.outputText)")
                let said = form.isEmpty ? "No space left" : "{\"error\":\"OutputFailed\""
                #expect(outcome.errorText.contains(said), "\(command): \(outcome.errorText)")
            }
        }
    }

    /// All that `log tail` has to say fits into the pipe before `head` has read its line.
    private static let cutOff = #"{ timeout 30 "$@"; echo "ended with $?" >&2; } | head -n 1"#

    @Test("log tail --follow ends when nobody reads it any more, also where nothing more happens")
    func goneReader() async throws {
        for form: [String] in [[], ["--json"]] {
            let outcome = try await shell(Self.cutOff, ["log", "tail", "--follow", "--data-dir", directory.path] + form)
            #expect(outcome.errorText == "ended with 0\n" && outcome.lines.count == 1, "\(outcome.errorText)")
        }
    }

    @Test("log tail --follow through a server ends when nobody reads it any more")
    func goneReaderOfServer() async throws {
        let place = try TemporaryDirectory()
        let served = try ServedDirectory(try #require(Program.built), path: place.path)
        try await served.start()
        let outcome = try await shell(Self.cutOff, ["log", "tail", "--follow", "--json"], environment: served.environment)
        #expect(outcome.errorText == "ended with 0\n" && outcome.lines.count == 1, "\(outcome.errorText)")
        #expect(try await served.stop()?.status == 0)
    }

    @Test("a log that fails under a command ends it with 3, told in the form that was asked for")
    func failing() async throws {
        let member = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
        let names = (100..<350).map { String(repeating: "x", count: 60) + "\($0)" }
        for form: [String] in [[], ["--json"]] {
            let place = try TemporaryDirectory()
            let served = try ServedDirectory(try #require(Program.built), path: place.path)
            served.environment["STRATOS_ALLOWED_DOMAINS"] = (["general"] + names).joined(separator: ",")
            try await served.succeed("enroll", member, "--boundary", "general")
            // No file may grow past 32 KiB: so many names do not fit into the log's WAL, and the write in its middle fails.
            let outcome = try await shell(
                #"trap "" XFSZ; ulimit -f 64; exec "$@""#, ["boundaries", "set", member] + names + form, environment: served.environment)
            if form.isEmpty {
                #expect(outcome.status == 3 && outcome.outputText == "", "\(outcome.status) \(outcome.outputText)")
                #expect(outcome.errorText.hasPrefix("error: the log failed"), "\(outcome.errorText)")
            } else {
                try expectError(outcome, 3, "LogFailed", "a log that fails")
            }
        }
    }
}
