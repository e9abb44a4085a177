import ATProto
import Devnet
import Foundation
import HummingbirdTesting
import Keys
import Simulation
import Testing

@Suite("A devnet's life")
struct LifetimeTests {
    @Test("two devnets run side by side and know nothing of each other; stopped, they answer no more")
    func sideBySide() async throws {
        let urls = try await Devnet.run { first in
            try await Devnet.run { second in
                let did = try first.createAccount(handle: "alice.test").did
                #expect(Set([first.plcURL, first.pdsURL, second.plcURL, second.pdsURL]).count == 4)
                #expect(try await HTTPCall.get("\(first.plcURL)/\(did)").status == 200)
                #expect(try await HTTPCall.get("\(second.plcURL)/\(did)").status == 404)
                return [first.plcURL, first.pdsURL, second.plcURL, second.pdsURL]
            }
        }
        for url in urls {
            await #expect(throws: (any Error).self, "\(url)") { try await HTTPCall.get(url + "/_health") }
        }
    }

    @Test("a connection that a client keeps open does not hold up the end")
    func keptConnection() async throws {
        let devnet = try await Devnet.start()
        let port = try #require(Int(devnet.pdsURL.split(separator: ":")[2]))
        try await TestClient.withClient(host: "127.0.0.1", port: port) { client in
            let answer = try await client.get("/xrpc/_health")
            #expect(answer.status == .ok)
            let clock = ContinuousClock()
            let start = clock.now
            await devnet.stop()
            #expect(clock.now - start < .seconds(60))
        }
    }

    @Test("a devnet that is stopped, or only dropped, leaves nothing behind", arguments: [true, false])
    func released(isStopped: Bool) async throws {
        weak var seen: Devnet?
        var port: UInt16 = 0
        do {
            let devnet = try await Devnet.start()
            seen = devnet
            port = try #require(UInt16(devnet.pdsURL.split(separator: ":")[2]))
            #expect(try await HTTPCall.get(devnet.pdsURL + "/xrpc/_health").status == 200)
            #expect(!Self.isFree(port))
            if isStopped { await devnet.stop() }
        }
        #expect(seen == nil)
        if !isStopped {
            for _ in 0..<100 where !Self.isFree(port) { try await Task.sleep(for: .milliseconds(20)) }
        }
        #expect(Self.isFree(port))
    }

    @Test("a start in a task that was cancelled gives a whole devnet all the same")
    func cancelledStart() async throws {
        let starting = Task { try await Devnet.start() }
        starting.cancel()
        let devnet = try await starting.value
        #expect(try await HTTPCall.get(devnet.plcURL + "/_health").status == 200)
        await devnet.stop()
    }

    @Test("a taken port is an error, and frees the other one")
    func takenPort() async throws {
        try await Devnet.run { first in
            var configuration = DevnetConfiguration()
            configuration.pdsPort = try #require(Int(first.pdsURL.split(separator: ":")[2]))
            await #expect {
                try await Devnet.start(configuration)
            } throws: { error in
                if case DevnetError.notListening = error { true } else { false }
            }
        }
    }

    @Test("with a data file, DIDs, handles, passwords, keys, records and ports outlive a restart")
    func dataFile() async throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "devnet-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        var configuration = DevnetConfiguration()
        configuration.dataFile = path
        let before = try await Devnet.run(configuration) { devnet in
            let made = try await HTTPCall.post(devnet.pdsURL + "/devnet/account", ["handle": "alice.test", "password": "secret"])
            let did = try DID(try #require(try made.json["did"]?.stringValue))
            try devnet.replaceRepoKey(of: did, with: .generate(.p256))
            try devnet.rotateTokenKeys()
            try devnet.setRecord(["text": "kept"], of: did, collection: try NSID("com.example.note"), key: try RecordKey("a"))
            return try await look(devnet)
        }
        try await Devnet.run(configuration) { devnet in
            #expect(try await look(devnet) == before)
            let handle = try Handle("alice.test")
            let user = try #require(devnet.user(handle))
            // The rotation key came back too: it signs the next operation.
            try devnet.replaceRepoKey(of: user.did)
            #expect(try await look(devnet).repoKey != before.repoKey)
        }
        let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        var moved = configuration
        moved.pdsPort = 1
        let saved = try #require(Int(before.urls[1].split(separator: ":")[2]))
        await #expect(throws: DevnetError.portMoved(saved: saved)) { try await Devnet.start(moved) }
        try Data([0xA0]).write(to: URL(filePath: path))
        await #expect {
            try await Devnet.start(configuration)
        } throws: { error in
            if case DevnetError.unreadable = error { true } else { false }
        }
    }

    @Test("the program says where it listens and whom it made, and ends when it is told to")
    func program() async throws {
        let process = Process()
        process.executableURL = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: "stratos-devnet")
        process.arguments = ["--account", "alice.test", "--account", "bob.test", "--password", "secret", "--symmetric"]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        defer { if process.isRunning { process.terminate() } }
        let lines = try await Self.lines(3, of: output.fileHandleForReading).map { try DataModelJSON.decodePlain(Array($0.utf8)) }
        try #require(lines.count == 3)
        let pds = try #require(lines.first?["pds"]?.stringValue)
        #expect(lines[1]["handle"] == "alice.test" && lines[2]["handle"] == "bob.test")
        let answer = try await HTTPCall.post(
            pds + "/xrpc/com.atproto.server.createSession", ["identifier": "bob.test", "password": "secret"])
        #expect(try answer.json["did"] == lines[2]["did"])
        #expect(try await HTTPCall.get(pds + "/oauth/jwks").json == ["keys": []])
        process.terminate()
        process.waitUntilExit()
        #expect(process.terminationReason == .exit && process.terminationStatus == 0)
    }

    /// Whether nobody listens on a port of loopback: then it can be bound, whatever is left of old connections.
    private static func isFree(_ port: UInt16) -> Bool {
        let file = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(file) }
        var yes: Int32 = 1
        setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return withUnsafePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(file, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0 }
        }
    }

    /// What a client of the devnet sees of it.
    private struct Seen: Equatable {
        var urls: [String]
        var document: Value
        var audit: Value
        var jwks: Value
        var records: Value
        var repoKey: PublicKey
    }

    private func look(_ devnet: Devnet) async throws -> Seen {
        let handle = try Handle("alice.test")
        let user = try #require(devnet.user(handle))
        #expect(user.password == "secret")
        let list = "/xrpc/com.atproto.repo.listRecords?repo=alice.test&collection=com.example.note"
        return Seen(
            urls: [devnet.plcURL, devnet.pdsURL], document: try await HTTPCall.get("\(devnet.plcURL)/\(user.did)").json,
            audit: try await HTTPCall.get("\(devnet.plcURL)/\(user.did)/log/audit").json,
            jwks: try await HTTPCall.get(devnet.pdsURL + "/oauth/jwks").json,
            records: try await HTTPCall.get(devnet.pdsURL + list).json, repoKey: user.repoKey.publicKey)
    }

    /// The first lines of a pipe; fewer when it is closed before.
    private static func lines(_ count: Int, of file: FileHandle) async throws -> [String] {
        let (chunks, arrived) = AsyncStream<Data>.makeStream()
        file.readabilityHandler = { file in
            let chunk = file.availableData
            if chunk.isEmpty { arrived.finish() } else { arrived.yield(chunk) }
        }
        defer { file.readabilityHandler = nil }
        var bytes = Data()
        for await chunk in chunks {
            bytes += chunk
            if bytes.count(where: { $0 == 0x0A }) >= count { break }
        }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").prefix(count).map(String.init)
    }
}
