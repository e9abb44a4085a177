import ATProto
import Devnet
import Foundation
import Simulation
import Testing

/// The pages as a browser shows them: the whole way of joining, with the built program and a devnet.
@Suite("OAuth: a browser walks the flow", .timeLimit(.minutes(2)), .serialized)
struct BrowserTests {
    private struct Walk {
        let pages: [Value]
        let problems: [String]
        let requests: [String]

        func text(_ page: Int, _ member: String) -> String { page < pages.count ? pages[page][member]?.stringValue ?? "" : "" }
    }

    /// Nil, said once, without a browser or without what runs it.
    private func isPossible() -> Bool {
        let isThere = FileManager.default.isExecutableFile(atPath: "/usr/bin/chromium") && PythonScript.isAvailable
        if !isThere { TestFiles.note("skipped: no browser walked the flow of joining, as there is no chromium or no tools/.venv") }
        return isThere
    }

    /// - Parameter name: of the folder for pictures of the pages, below `STRATOS_SCREENSHOTS`, where somebody wants to look at them.
    private func walk(_ url: String, _ further: [String] = [], pictures name: String) async throws -> Walk {
        let folder = ProcessInfo.processInfo.environment["STRATOS_SCREENSHOTS"].map { "\($0)/\(name)" }
        if let folder { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
        let pictures = folder.map { ["--screenshots", $0] } ?? []
        let outcome = try await PythonScript.run("browse_joining.py", [url, "--password", "password"] + further + pictures)
        try #require(outcome.status == 0, "\(outcome.text)")
        let answer = try DataModelJSON.decodePlain(Array((outcome.text.split(separator: "\n").last ?? "").utf8).filter { $0 != 0x0A })
        func texts(_ name: String) -> [String] { (answer[name]?.arrayValue ?? []).compactMap(\.stringValue) }
        return Walk(pages: answer["pages"]?.arrayValue ?? [], problems: texts("problems"), requests: texts("requests"))
    }

    private func serve(_ what: String, _ body: (ProgramUnderTest, Devnet, DevnetUser) async throws -> Void) async throws {
        guard isPossible(), let program = try ProgramUnderTest(what) else { return }
        try await Devnet.run { devnet in
            let user = try devnet.createAccount(handle: "browsing.test")
            program.served.environment["STRATOS_PLC_URL"] = devnet.plcURL
            program.served.environment["STRATOS_ENROLLMENT_MODE"] = "open"
            try await program.served.start()
            try await body(program, devnet, user)
            try await program.served.stop()
        }
    }

    @Test("a person signs in, allows it, and is told that they have joined; the second time they are welcomed back")
    func joins() async throws {
        try await serve("joining in a browser") { program, devnet, user in
            let url = "http://localhost:\(program.served.port)/oauth/authorize?handle=\(user.did)"
            let first = try await walk(url, pictures: "joins")
            #expect(first.pages.count == 3 && first.text(0, "heading") == "Sign in", "\(first.pages)")
            #expect(first.text(2, "heading") == "You have joined", "\(first.pages)")
            #expect(first.text(2, "title") == "You have joined · Stratos" && first.text(2, "language") == "en")
            #expect(first.text(2, "text").contains(user.did.description))
            #expect(first.text(2, "url").hasPrefix("http://127.0.0.1:\(program.served.port)/oauth/callback?"))
            #expect(first.text(2, "cookies") == "", "no script sees the cookie")
            #expect(first.pages.last?["width"] == true, "nothing is cut off")
            #expect(first.text(2, "ground") == "rgb(243, 245, 249)", "the style was applied, and so its hash is right")
            let own = ["http://localhost:", "http://127.0.0.1:"]
            #expect(first.requests.allSatisfy { request in own.contains { request.hasPrefix($0) } }, "\(first.requests)")
            #expect(first.problems.filter { !$0.contains("favicon") && !$0.contains("404") } == [])
            #expect(devnet.sessions(of: user.did).count == 1)
            let second = try await walk(url, ["--dark"], pictures: "comes-back")
            #expect(second.text(2, "heading") == "Welcome back" && second.text(2, "ground") != first.text(2, "ground"))
        }
    }

    @Test("a person who says no is told that it did not work, and is no member")
    func denies() async throws {
        try await serve("saying no in a browser") { program, devnet, user in
            let walk = try await walk(
                "http://localhost:\(program.served.port)/oauth/authorize?handle=\(user.did)", ["--deny"], pictures: "denies")
            #expect(walk.text(2, "heading") == "That did not work" && walk.text(2, "text").contains("NotAuthorized"), "\(walk.pages)")
            #expect(devnet.sessions().isEmpty)
            let members = try await program.run(["enrollments", "--json"])
            #expect(members.status == 0 && members.lines.isEmpty, "\(members.outputText)")
        }
    }
}
