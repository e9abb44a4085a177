import ATProto
import Foundation
import Simulation
import Testing

/// The program and a directory of its own, or nil, said once, where the program is not built.
struct ProgramUnderTest {
    let directory: TemporaryDirectory
    let served: ServedDirectory

    init?(_ what: String) throws {
        guard let program = Program.built else {
            TestFiles.note("skipped: the program is not built, so \(what) was not tested")
            return nil
        }
        directory = try TemporaryDirectory()
        served = try ServedDirectory(program, path: directory.file("data"))
    }

    /// Runs a command with the settings of the directory, changed as given: nil takes a setting away.
    func run(_ arguments: [String], settings: [String: String?] = [:]) async throws -> Program.Outcome {
        var environment = served.environment
        for (name, value) in settings { environment[name] = value }
        return try await served.program.run(arguments, environment: environment)
    }

    /// The one JSON object that a command prints.
    func json(_ arguments: [String], settings: [String: String?] = [:]) async throws -> Value {
        let outcome = try await run(arguments + ["--json"], settings: settings)
        #expect(outcome.status == 0, "\(arguments): \(outcome.outputText) \(outcome.errorText)")
        #expect(outcome.lines.count == 1, "\(arguments)")
        return try DataModelJSON.decode(Array(outcome.lines.first?.utf8 ?? "{}".utf8))
    }

    /// Runs a command both ways, and expects this exit code, this error and a message with all of these words.
    func expectFailure(
        _ arguments: [String], _ status: Int32, _ error: String, _ words: String..., settings: [String: String?] = [:],
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let json = try await run(arguments + ["--json"], settings: settings)
        #expect(json.status == status, "\(arguments): \(json.outputText) \(json.errorText)", sourceLocation: sourceLocation)
        let value = try? DataModelJSON.decode(Array(json.lines.last?.utf8 ?? "".utf8))
        #expect(value?["error"]?.stringValue == error, "\(arguments): \(json.outputText)", sourceLocation: sourceLocation)
        let plain = try await run(arguments, settings: settings)
        #expect(plain.status == status, "\(arguments)", sourceLocation: sourceLocation)
        #expect(plain.output.isEmpty, "\(arguments): what went wrong is not a result", sourceLocation: sourceLocation)
        for word in words {
            let said = value?["message"]?.stringValue ?? ""
            #expect(said.contains(word), "\(arguments): \(said)", sourceLocation: sourceLocation)
            #expect(plain.errorText.contains(word), "\(arguments): \(plain.errorText)", sourceLocation: sourceLocation)
        }
    }

    func file(_ name: String) -> String { directory.file(name) }

    /// Asks the running server as a member.
    func ask(_ verb: String, _ target: String, as caller: String, body: Value? = nil) async throws -> HTTPAnswer {
        let port = served.port
        let headers = [("Authorization", "Bearer \(caller)")] + (body == nil ? [] : [("Content-Type", "application/json")])
        let bytes = body.map { DataModelJSON.encode($0) }
        return try await onThread { try HTTPConnection(port: port).ask(verb, target, headers: headers, body: bytes) }
    }

    @discardableResult
    func write(_ text: String, as caller: String, in boundary: String = "general", at rkey: String? = nil) async throws -> HTTPAnswer {
        let record: Value = [
            "$type": .string(Service.post), "text": .string(text), "createdAt": "2026-01-01T00:00:00.000Z",
            "boundary": ["values": [["value": .string("\(ServedDirectory.service)/\(boundary)")]]],
        ]
        var input: ValueMap = ["repo": .string(caller), "collection": .string(Service.post), "record": record]
        if let rkey { input["rkey"] = .string(rkey) }
        return try await ask("POST", "/xrpc/com.atproto.repo.createRecord", as: caller, body: .map(input))
    }
}
