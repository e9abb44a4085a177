import ATProto
import Devnet
import Foundation

/// Members of the real service, with sessions that they gave in the real flow, write while their own server is down, slow, failing,
/// forgetful or silent about what it did, and the service is killed in the midst of it. Every write and every enrollment is answered as if
/// nothing were wrong. Once the server is back, what it shows is what the log says: each record's stub in its newest version, the
/// enrollment records of those who are members, and nothing of those who left.
package enum EffectsProof {
    package static let proof = Proof(
        name: "effects",
        claim:
            "what members' own servers show becomes what the log says, whatever they or this service went through, and nobody's write waits for it"
    ) { request in
        guard let program = Program.built else {
            return ProofResult(counts: [], failures: ["the program `stratos` was not built beside this one"])
        }
        var configuration = DevnetConfiguration()
        configuration.accessTokenLifetime = 120
        return try await Devnet.run(configuration) { devnet in
            var world = try EffectsWorld(request, devnet: devnet, program: program)
            return try await world.run(accounts: request.small ? 2 : 5, rounds: request.small ? 1 : 8)
        }
    }
}

private struct EffectsWorld {
    private enum Trouble: String, CaseIterable {
        case down, slow, failing, silent, forgetful, revoked, rotated, none
    }

    /// A member and what the member's records came through, in order.
    private struct Member {
        let user: DevnetUser
        var isMember = false
        /// The versions of each record, oldest first; nil: deleted.
        var versions: [String: [String?]] = [:]
        /// The keys in the order in which they were created.
        var order: [String] = []
        /// Those that were not in public yet when their author left: they come behind what is new when the author comes back.
        var delayed: Set<String> = []

        var live: [String] { order.filter { versions[$0]?.last.flatMap { $0 } != nil } }
    }

    private let devnet: Devnet
    private let served: ServedDirectory
    private let seed: UInt64
    private var random: SeededGenerator
    private var members: [Member] = []
    private var failures: [String] = []
    private var (joins, writes, kills, slowKills, longestWrite) = (0, 0, 0, 0, Duration.zero)
    private var keys: Int64 = 0

    init(_ request: ProofRequest, devnet: Devnet, program: Program) throws {
        self.devnet = devnet
        seed = request.seed
        random = SeededGenerator(seed: request.seed)
        served = try ServedDirectory(program, path: request.directory + "/data")
        served.environment["STRATOS_PLC_URL"] = devnet.plcURL
        served.environment["STRATOS_ENROLLMENT_MODE"] = "open"
    }

    mutating func run(accounts: Int, rounds: Int) async throws -> ProofResult {
        try await served.start()
        for _ in 0..<accounts { try await joinNew() }
        try await calm()
        var round = 0
        while round < rounds, failures.isEmpty {
            for trouble in Trouble.allCases.shuffled(using: &random) { try await go(through: trouble) }
            round += 1
        }
        devnet.clearFaults()
        try await end()
        try await served.stop()
        let verified = try await served.command(["verify", "--json"], timeout: .seconds(300))
        if verified.status != 0 { failures.append("verify: \(verified.outputText)") }
        let journal = devnet.writes()
        judge(journal)
        let counts = [
            ("members", members.count), ("joins", joins), ("writes", writes), ("kills", kills), ("effects", journal.count),
            ("repeated effects", journal.filter { !$0.isChange }.count), ("late effects", late(in: journal)),
            ("longest write, milliseconds", Int(longestWrite / .milliseconds(1))),
        ]
        return ProofResult(counts: counts.map { (name: $0.0, count: $0.1) }, failures: failures.map { "seed \(seed): \($0)" })
    }

    // MARK: What happens

    /// While nothing is wrong each write has one effect.
    private mutating func calm() async throws {
        try await idle()
        let before = devnet.writes().count
        for index in members.indices { for _ in 0..<3 { try await create(index) } }
        try await idle()
        let found = devnet.writes()[before...]
        if found.count != 3 * members.count || found.contains(where: { !$0.isChange }) {
            failures.append("\(3 * members.count) writes had \(found.count) effects while nothing was wrong")
        }
    }

    private mutating func go(through trouble: Trouble) async throws {
        switch trouble {
        case .down: devnet.setFault(.down, on: DevnetPart.pds)
        case .slow: devnet.setFault(.slow(.milliseconds(400)), on: .writes)
        case .failing: devnet.setFault(.error(500), on: .writes)
        case .silent: devnet.setFault(.afterwards, on: .writes)
        case .forgetful: try devnet.forgetSessions()
        case .revoked: if let member = members.randomElement(using: &random) { try devnet.revokeSessions(of: member.user.did) }
        case .rotated:
            try devnet.rotateTokenKeys()
            try devnet.rotateNonces()
        case .none: break
        }
        for _ in 0..<3 {
            for _ in 0..<4 { try await somethingHappens() }
            try await Task.sleep(for: .milliseconds(Int.random(in: 0...150, using: &random)))
            if trouble == .slow { slowKills += 1 }
            kills += 1
            listen()
            try await served.kill()
            try await served.start()
        }
        // Where records alone fail, people come in as ever.
        if [.slow, .failing, .silent].contains(trouble), members.count < 40 { try await joinNew() }
        if let away = members.indices.filter({ !members[$0].isMember }).randomElement(using: &random), trouble != .down {
            try await join(away)
        }
        devnet.clearFaults()
        if trouble == .forgetful || trouble == .revoked {
            for index in members.indices where members[index].isMember { try await join(index) }
        }
    }

    /// No trouble here is one that a record is refused for.
    private mutating func listen() {
        let said = String(decoding: served.running?.errorsSoFar ?? [], as: UTF8.self)
        failures += said.split(separator: "\n").filter { $0.contains("refused") }.map(String.init)
    }

    private mutating func somethingHappens() async throws {
        guard let index = members.indices.filter({ members[$0].isMember }).randomElement(using: &random) else { return }
        let live = members[index].live
        switch Int.random(in: 0..<12, using: &random) {
        case 0: try await leave(index)
        case 1:
            let change = Bool.random(using: &random) ? "add" : "remove"
            try await served.succeed("boundaries", change, members[index].user.did.description, "writers")
        case 2...4: if let key = live.randomElement(using: &random) { try await put(index, key) }
        case 5, 6: if let key = live.randomElement(using: &random) { try await delete(index, key) }
        default: try await create(index)
        }
    }

    /// In the end all come back, and the first one leaves for good.
    private mutating func end() async throws {
        for index in members.indices { try await join(index) }
        try await idle()
        try await compare()
        // Each time somebody came back the server gave one more.
        let held = devnet.sessions(of: members[0].user.did).count
        try await leave(0)
        try await idle()
        try await compare()
        let left = devnet.sessions(of: members[0].user.did).count
        if left != held - 1 { failures.append("of \(held) sessions of somebody who left \(left) are still held") }
        listen()
    }

    // MARK: One thing

    private mutating func joinNew() async throws {
        members.append(Member(user: try devnet.createAccount(handle: "member\(members.count).test")))
        try await join(members.count - 1)
    }

    /// Through the browser's part of the flow.
    private mutating func join(_ index: Int) async throws {
        let (port, user, devnet) = (served.port, members[index].user, devnet)
        let answer = try await onThread {
            let connection = try HTTPConnection(port: port)
            let begun = try connection.ask("GET", "/oauth/authorize?handle=\(user.did)")
            guard let location = begun["location"], let cookie = begun["set-cookie"]?.split(separator: ";").first else { return begun }
            let callback = try devnet.consent(at: location, as: user)
            guard let slash = callback.dropFirst("http://".count).firstIndex(of: "/") else { return begun }
            return try connection.ask(
                "GET", String(callback[slash...]), headers: [("Cookie", String(cookie)), ("Accept", "application/json")])
        }
        joins += 1
        if answer.status != 200 { return failures.append("joining was answered with \(answer.status): \(answer.text)") }
        members[index].isMember = true
    }

    private mutating func leave(_ index: Int) async throws {
        guard try await ask(index, "/oauth/revoke", []) != nil else { return }
        // What was written is kept, and comes back with its author.
        let published = Set(devnet.writes(of: members[index].user.did).map(\.key.description))
        members[index].delayed.formUnion(members[index].order.filter { !published.contains($0) })
        members[index].isMember = false
    }

    private mutating func create(_ index: Int) async throws {
        keys += 1
        let key = TID(microseconds: 1_780_000_000_000_000 + keys * 1000, clockID: 1).description
        members[index].order.append(key)
        try await put(index, key)
    }

    private mutating func put(_ index: Int, _ key: String) async throws {
        writes += 1
        let record: Value = [
            "$type": "zone.stratos.feed.post", "text": .string("write \(writes)"), "createdAt": "2026-01-01T00:00:00.000Z",
            "boundary": ["values": [["value": .string("\(ServedDirectory.service)/general")]]],
        ]
        let answer = try await call(index, "putRecord", ["rkey": .string(key), "record": record])
        if let answer { members[index].versions[key, default: []].append(answer["cid"]?.stringValue) }
    }

    private mutating func delete(_ index: Int, _ key: String) async throws {
        writes += 1
        if try await call(index, "deleteRecord", ["rkey": .string(key)]) != nil { members[index].versions[key, default: []].append(nil) }
    }

    private mutating func call(_ index: Int, _ method: String, _ fields: ValueMap) async throws -> Value? {
        var input = fields
        input["repo"] = .string(members[index].user.did.description)
        input["collection"] = "zone.stratos.feed.post"
        return try await ask(index, "/xrpc/com.atproto.repo.\(method)", DataModelJSON.encode(.map(input)))
    }

    /// - Returns: nil where it was not done; that is noted.
    private mutating func ask(_ index: Int, _ target: String, _ body: [UInt8]) async throws -> Value? {
        let (port, did) = (served.port, members[index].user.did)
        let began = ContinuousClock.now
        let answer = try await onThread {
            try HTTPConnection(port: port).ask(
                "POST", target, headers: [("Authorization", "Bearer \(did)"), ("Content-Type", "application/json")], body: body)
        }
        longestWrite = max(longestWrite, ContinuousClock.now - began)
        guard answer.status == 200 else {
            failures.append("\(target) was answered with \(answer.status): \(answer.text)")
            return nil
        }
        return try DataModelJSON.decode(answer.body)
    }

    // MARK: What is there in the end

    /// Waits until the reactors have nothing to do.
    private mutating func idle() async throws {
        let end = ContinuousClock.now + .seconds(90)
        var last = ""
        while ContinuousClock.now < end {
            let outcome = try await served.succeed("reactors", "--json")
            let lines = try outcome.lines.map { try DataModelJSON.decode(Array($0.utf8)) }
            let isIdle = lines.dropLast().allSatisfy { $0["state"] == "idle" && $0["refused"] == 0 }
            if isIdle, let summary = lines.last, summary["lag"] == 0 { return }
            last = outcome.outputText
            try await Task.sleep(for: .milliseconds(50))
        }
        failures.append("the reactors do not come to rest: \(last)")
    }

    private mutating func compare() async throws {
        let enrollments = try await served.succeed("enrollments", "--json").lines.map { try DataModelJSON.decode(Array($0.utf8)) }
        for member in members {
            let did = member.user.did
            var expected: [String: String] = [:]
            if member.isMember { for key in member.live { expected[key] = member.versions[key]?.last.flatMap { $0 } } }
            var found: [String: String] = [:]
            for (key, value) in try await published(did, "zone.stratos.feed.post") {
                found[key] = value["source"]?["subject"]?["cid"]?.stringValue ?? "no stub"
                if value["text"] != nil || value["boundary"] != nil { failures.append("\(did): a stub says more than it may: \(value)") }
            }
            for key in Set(expected.keys).union(found.keys) where expected[key] != found[key] {
                failures.append("\(did): \(key) stands there as \(found[key] ?? "nothing"), and here as \(expected[key] ?? "nothing")")
            }
            let records = try await published(did, "zone.stratos.actor.enrollment")
            let enrollment = enrollments.first { $0["did"]?.stringValue == did.description }
            guard member.isMember else {
                if !records.isEmpty { failures.append("\(did) has left and is still said to be a member") }
                continue
            }
            let record = records[ServedDirectory.service]
            let boundaries = record?["boundaries"]?.arrayValue?.compactMap { $0["value"]?.stringValue }
            if records.count != 1 || boundaries != enrollment?["boundaries"]?.arrayValue?.compactMap(\.stringValue)
                || record?["signingKey"] != enrollment?["signingKey"]
            {
                failures.append("\(did): enrolled as \(enrollment ?? .null), and published as \(records)")
            }
        }
    }

    /// What the public sees.
    private func published(_ did: DID, _ collection: String) async throws -> [String: Value] {
        guard let port = devnet.pdsURL.split(separator: ":").last.flatMap({ UInt16($0) }) else { return [:] }
        return try await onThread {
            let connection = try HTTPConnection(port: port)
            var found: [String: Value] = [:]
            var cursor = ""
            while true {
                let target = "/xrpc/com.atproto.repo.listRecords?repo=\(did)&collection=\(collection)&limit=100\(cursor)"
                let page = try DataModelJSON.decode(try connection.ask("GET", target).body)
                for record in page["records"]?.arrayValue ?? [] {
                    guard let key = record["uri"]?.stringValue?.split(separator: "/").last else { continue }
                    found[String(key)] = record["value"]
                }
                guard let next = page["cursor"]?.stringValue else { return found }
                cursor = "&cursor=\(next)"
            }
        }
    }

    // MARK: How it came there

    private mutating func judge(_ journal: [DevnetWrite]) {
        for member in members {
            let own = journal.filter { $0.did == member.user.did && $0.collection.description == "zone.stratos.feed.post" }
            var seen: Set<String> = []
            let firsts = own.filter { $0.cid != nil }.map(\.key.description).filter {
                seen.insert($0).inserted && !member.delayed.contains($0)
            }
            let due = member.order.filter { seen.contains($0) && !member.delayed.contains($0) }
            if firsts != due { failures.append("\(member.user.did): stubs came in the order \(firsts), records in the order \(due)") }
        }
        // An effect is repeated where its outcome was not learnt, and once more for what a slow server may do late.
        let (repeats, late) = (journal.filter { !$0.isChange }.count, late(in: journal))
        let unknown = kills * members.count + devnet.requests(to: .writes) - journal.count
        if repeats > 2 * unknown + 2 * joins { failures.append("\(repeats) effects were repeated, with \(unknown) that may be unknown") }
        if late > slowKills * members.count { failures.append("\(late) effects came after a newer one") }
    }

    /// Stubs of a version that were put after one of a newer version: what a slow server did for a process that was killed.
    private func late(in journal: [DevnetWrite]) -> Int {
        // A stub's own CID stands in the journal; its content says the version. So versions are known by the order of their first stubs.
        var late = 0
        for member in members {
            var newest: [String: Int] = [:]
            var known: [String: [CID]] = [:]
            for write in journal where write.did == member.user.did && write.collection.description == "zone.stratos.feed.post" {
                let key = write.key.description
                guard let cid = write.cid else { continue }
                let version = known[key]?.firstIndex(of: cid) ?? known[key]?.count ?? 0
                if known[key]?.contains(cid) != true { known[key, default: []].append(cid) }
                if version < newest[key] ?? 0 { late += 1 }
                newest[key] = max(version, newest[key] ?? 0)
            }
        }
        return late
    }
}
