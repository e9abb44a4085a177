import ATProto
import CSQLite
import Foundation
import Simulation
import Testing

@Suite("Program: starting, stopping, and starting again")
struct RestartTests {
    private func served(_ what: String) async throws -> ProgramUnderTest? {
        guard let program = try ProgramUnderTest(what) else { return nil }
        try await program.served.succeed("enroll", Service.alice)
        return program
    }

    /// `serve` refuses, at once and in words; nothing was changed.
    private func expectRefusal(
        _ program: ProgramUnderTest, _ status: Int32, _ error: String, _ words: String..., settings: [String: String?] = [:],
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let outcome = try await program.run(["serve", "--json"], settings: settings)
        #expect(outcome.status == status, "\(outcome.outputText) \(outcome.errorText)", sourceLocation: sourceLocation)
        let said = try? DataModelJSON.decode(Array(outcome.lines.last?.utf8 ?? "".utf8))
        #expect(said?["error"]?.stringValue == error, "\(outcome.outputText)", sourceLocation: sourceLocation)
        for word in words {
            #expect(said?["message"]?.stringValue?.contains(word) == true, "\(outcome.outputText)", sourceLocation: sourceLocation)
        }
    }

    @Test(
        "another service DID, another key, or no key is refused, with what would help; the right ones start as before",
        .timeLimit(.minutes(1)))
    func pinned() async throws {
        guard let program = try await served("the pinned service") else { return }
        let path = program.served.path
        try await expectRefusal(
            program, 2, "ServiceDIDMismatch", ServedDirectory.service, "did:web:other.example", "cannot change it",
            settings: ["STRATOS_SERVICE_DID": "did:web:other.example"])
        try await expectRefusal(
            program, 2, "ServiceKeyMismatch", "did:key:zQ3sh", "cannot change it",
            settings: ["STRATOS_SIGNING_KEY_HEX": String(repeating: "6b", count: 32)])
        try FileManager.default.moveItem(atPath: path + "/signing_key", toPath: path + "/aside")
        try await expectRefusal(program, 2, "ServiceKeyMissing", "put it back", "STRATOS_SIGNING_KEY_HEX")
        try Data([1, 2, 3]).write(to: URL(filePath: path + "/signing_key"))
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path + "/signing_key")
        try await expectRefusal(program, 3, "KeyFileRefused", "signing_key")
        try FileManager.default.removeItem(atPath: path + "/signing_key")
        try FileManager.default.moveItem(atPath: path + "/aside", toPath: path + "/signing_key")
        let events = try await program.json(["log", "stats"])["events"]
        #expect(events == 2, "no refused start is in the log")
        try await program.served.start()
        #expect(try await program.write("x", as: Service.alice).status == 200)
        #expect(try await program.served.stop()?.status == 0)
    }

    @Test(
        "a name taken out of the settings: no new grants and writes, reads and membership as before, and a warning that counts",
        .timeLimit(.minutes(1)))
    func retiredBoundary() async throws {
        guard let program = try await served("a retired boundary") else { return }
        let served = program.served
        try await served.succeed("enroll", Service.bob, "--boundary", "writers")
        try await served.start()
        let written = try await program.write("kept", as: Service.alice, in: "writers")
        #expect(written.status == 200)
        #expect(try await !served.stop()!.errorText.contains("still held"))
        served.environment["STRATOS_ALLOWED_DOMAINS"] = "general"
        for _ in 0..<2 {
            try await served.start()
            let refused = try await program.write("new", as: Service.alice, in: "writers")
            #expect(refused.status == 400)
            #expect(refused.text.contains("Domain 'writers' is not allowed"))
            let list = Service.target("com.atproto.repo.listRecords", [("repo", Service.alice), ("collection", Service.post)])
            let read = try await program.ask("GET", list, as: Service.bob)
            #expect(try DataModelJSON.decode(read.body)["records"]?.arrayValue?.count == 1)
            try await program.expectFailure(
                ["enroll", "did:plc:carol", "--boundary", "writers"], 1, "InvalidRequest", "not in allowed domains")
            let status = Service.target("zone.stratos.enrollment.status", [("did", Service.bob)])
            #expect(try await program.ask("GET", status, as: Service.bob).text.contains("/writers"))
            let said = try #require(try await served.stop()).errorText
            #expect(said.contains("no longer in STRATOS_ALLOWED_DOMAINS"), "\(said)")
            #expect(said.contains("boundary=writers") && said.contains("members=2"), "\(said)")
        }
        served.environment["STRATOS_ALLOWED_DOMAINS"] = "general,writers"
        try await served.start()
        #expect(try await program.write("again", as: Service.alice, in: "writers").status == 200)
        #expect(try await !served.stop()!.errorText.contains("still held"))
    }

    @Test("a log of a later version is refused by every command, and left as it is")
    func laterLog() async throws {
        guard let program = try await served("a log of a later version") else { return }
        try Self.execute("PRAGMA user_version = 2", on: program.served.path + "/log.sqlite")
        try await expectRefusal(program, 3, "LogRefused", "format 2", "format 1")
        for command in [["usage"], ["enroll", Service.bob], ["rebuild"], ["log", "stats"]] {
            try await program.expectFailure(command, 3, "LogRefused", "format 2")
        }
        try Self.execute("PRAGMA user_version = 1", on: program.served.path + "/log.sqlite")
        #expect(try await program.json(["log", "stats"])["events"] == 2)
    }

    @Test("an actor's rows of another version are made anew: the log has all of them")
    func laterRows() async throws {
        guard let program = try await served("rows of a later version") else { return }
        try await program.served.start()
        #expect(try await program.write("x", as: Service.alice).status == 200)
        try await program.served.stop()
        let digest = try await program.json(["digest"])
        let found = FileManager.default.enumerator(atPath: program.served.path + "/actors")?.compactMap { $0 as? String } ?? []
        let file = try #require(found.first { $0.hasSuffix("stratos.sqlite") && $0.contains(Service.alice) })
        try Self.execute("PRAGMA user_version = 99", on: program.served.path + "/actors/" + file)
        #expect(try await program.json(["digest"]) == digest)
        #expect(try await program.json(["usage", Service.alice])["actors"]?.arrayValue?.first?["records"] == 1)
    }

    @Test("a second process on the directory is refused, and says who has it; commands go to the server")
    func second() async throws {
        guard let program = try await served("a second process") else { return }
        try await program.served.start()
        let process = try #require(program.served.running?.process)
        try await expectRefusal(program, 3, "LogRefused", "in use by another process", "\(process)")
        #expect(try await program.json(["usage"])["actors"]?.arrayValue?.count == 1)
        // Without its socket the directory is still the server's.
        try FileManager.default.removeItem(atPath: program.served.path + "/stratos.sock")
        try await program.expectFailure(["usage"], 3, "LogRefused", "\(process)")
        #expect(try await program.served.stop()?.status == 0)
    }

    @Test("a port that is taken is told, with the variable that changes it")
    func port() async throws {
        guard let program = try await served("a taken port"), let other = try ProgramUnderTest("a taken port") else { return }
        try await program.served.start()
        let taken = String(program.served.port)
        let outcome = try await other.run(["serve", "--json"], settings: ["STRATOS_PORT": taken])
        #expect(outcome.status == 3, "\(outcome.outputText) \(outcome.errorText)")
        #expect(outcome.outputText.contains("\"error\":\"ServeFailed\""), "\(outcome.outputText)")
        #expect(outcome.outputText.contains("port \(taken) is in use"), "\(outcome.outputText)")
        try await program.served.stop()
    }

    @Test(
        "SIGTERM and SIGINT end a server with 0: what was begun is answered, idle connections are closed, the log is one file",
        arguments: [
            SIGTERM, SIGINT,
        ])
    func stops(signal: Int32) async throws {
        guard let program = try await served("stopping") else { return }
        let served = program.served
        try await served.start()
        let port = served.port
        let running = try #require(served.running)
        let idle = try HTTPConnection(port: port), begun = try HTTPConnection(port: port)
        // A request whose body is half there when the signal comes.
        let record: Value = ["$type": .string(Service.thing), "size": 1]
        let body = DataModelJSON.encode([
            "repo": .string(Service.alice), "collection": .string(Service.thing), "record": record, "validate": false,
        ])
        let headers = [
            ("Authorization", "Bearer \(Service.alice)"), ("Content-Type", "application/json"), ("Content-Length", "\(body.count)"),
        ]
        try await onThread {
            #expect(try idle.ask("GET", "/health").status == 200)
            try begun.send(HTTPConnection.head("POST", "/xrpc/com.atproto.repo.createRecord", headers: headers) + body.prefix(10))
        }
        try await Task.sleep(for: .milliseconds(200))
        running.signal(signal)
        try await onThread {
            #expect(idle.isClosedByPeer())
            #expect(throws: HTTPConnection.Failure.self) { try HTTPConnection(port: port, timeout: .seconds(1)).ask("GET", "/health") }
        }
        #expect(!running.hasEnded, "a request is in flight")
        try await onThread {
            try begun.send(Array(body.dropFirst(10)))
            #expect(try begun.answer().status == 200)
        }
        let outcome = try await running.finish(within: .seconds(20))
        #expect(outcome.status == 0, "\(outcome.errorText)")
        #expect(try await program.json(["usage"])["actors"]?.arrayValue?.first?["records"] == 1)
        let left = try FileManager.default.contentsOfDirectory(atPath: served.path).filter { $0.hasPrefix("log.sqlite") }
        #expect(left == ["log.sqlite"])
    }

    @Test("SIGKILL leaves nothing that hinders the next start, nor a command: not the socket, not the lock")
    func killed() async throws {
        guard let program = try await served("a kill") else { return }
        let served = program.served
        for round in 1...2 {
            try await served.start()
            #expect(try await program.write("\(round)", as: Service.alice).status == 200)
            try await served.kill()
            #expect(FileManager.default.fileExists(atPath: served.path + "/stratos.sock"), "a stale socket is what is tested")
            #expect(try await program.json(["usage"])["actors"]?.arrayValue?.first?["records"] == .integer(Int64(round)))
        }
        try await served.start()
        #expect(try await program.json(["verify"])["ok"] == true)
        #expect(try await served.stop()?.status == 0)
    }

    @Test("a directory with a path longer than a socket's address serves, and is reached")
    func longPath() async throws {
        guard let program = try ProgramUnderTest("a long path") else { return }
        let path = program.directory.file(String(repeating: "d", count: 120))
        program.served.environment["STRATOS_DATA_DIR"] = path
        #expect(try await program.run(["enroll", Service.alice]).status == 0)
        try await program.served.start()
        #expect(try await program.write("x", as: Service.alice).status == 200)
        #expect(try await program.json(["usage"])["actors"]?.arrayValue?.first?["records"] == 1)
        #expect(try await program.served.stop()?.status == 0)
    }

    @Test("with few descriptors the server still serves more connections than it can have open", .timeLimit(.minutes(1)))
    func fewDescriptors() async throws {
        guard let program = try await served("few descriptors") else { return }
        let shell = Program(path: "/bin/bash")
        let environment = program.served.environment
        let running = try shell.start(["-c", "ulimit -n 96; exec \(program.served.program.path) serve"], environment: environment)
        let port = program.served.port
        var isUp = false
        for _ in 0..<500 where !isUp {
            isUp = (try? await onThread { try HTTPConnection(port: port).ask("GET", "/health").status == 200 }) ?? false
            if !isUp { try await Task.sleep(for: .milliseconds(20)) }
        }
        #expect(isUp)
        try await onThread { () throws -> Void in
            let held = (0..<200).compactMap { _ in try? HTTPConnection(port: port) }
            #expect(held.count == 200)
            for connection in held { connection.close() }
            #expect(try HTTPConnection(port: port).ask("GET", "/health").status == 200)
        }
        #expect(!running.hasEnded)
        running.signal(SIGTERM)
        #expect(try await running.finish().status == 0)
    }

    private static func execute(_ sql: String, on path: String) throws {
        var database: OpaquePointer?
        defer { sqlite3_close(database) }
        guard sqlite3_open(path, &database) == SQLITE_OK, sqlite3_exec(database, sql, nil, nil, nil) == SQLITE_OK else {
            throw POSIXError(.EIO)
        }
    }
}
