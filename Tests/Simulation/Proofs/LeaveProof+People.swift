import ATProto
import EventLog
import Foundation
import Keys
import Synchronization

/// A connection to a service that is killed now and then: asks again until there is an answer.
private struct PatientConnection {
    let port: UInt16
    private var connection: HTTPConnection?

    init(port: UInt16) { self.port = port }

    /// One attempt. Nil: there was no answer, and whether the request had its effect is not known.
    mutating func attempt(
        _ method: String, _ target: String, headers: [(String, String)] = [], body: [UInt8]? = nil
    ) -> HTTPAnswer? {
        do {
            let connection = try self.connection ?? HTTPConnection(port: port, timeout: .seconds(20))
            self.connection = connection
            return try connection.ask(method, target, headers: headers, body: body)
        } catch {
            connection = nil
            Thread.sleep(forTimeInterval: 0.01)
            return nil
        }
    }
}

/// One account: joins, writes, leaves, and comes back.
///
/// `@unchecked Sendable`: the thread alone touches what changes, until `finished` has returned; `isDone` has its own lock.
final class LeavePerson: @unchecked Sendable {
    /// Stands in every text before `<account>-<enrollment>/<number>`.
    static let mark = "leave-proof:"

    let did: String
    private let number: Int
    private let size: LeaveProof.Size
    private let ledger: LeaveLedger
    private var random: SeededGenerator
    private var connection: PatientConnection
    private let done = Mutex(false)
    private let ended = DispatchSemaphore(value: 0)
    /// The commit keys that the account was given, in order.
    private(set) var keys: [String] = []
    private(set) var isErased = false
    private var lastRev = ""
    /// The enrollments whose texts are here, served or kept, and the blocks of their records.
    private var tenures: [String] = []
    private var blocks: [(actor: DID, cid: CID)] = []

    init(number: Int, port: UInt16, size: LeaveProof.Size, random: SeededGenerator, ledger: LeaveLedger) {
        self.number = number
        did = LeaveProof.actor(number)
        self.size = size
        self.random = random
        self.ledger = ledger
        connection = PatientConnection(port: port)
    }

    var isDone: Bool { done.withLock { $0 } }

    func start() {
        let thread = Thread { [self] in
            do { for round in 0..<size.leaves where !ledger.isStopping { try live(round) } } catch {
                ledger.fail("\(did): \(error)")
            }
            done.withLock { $0 = true }
            ended.signal()
        }
        thread.stackSize = 1 << 20
        thread.start()
    }

    func finished() async throws { try await onThread { [ended] in ended.wait() } }

    private struct Unexpected: Error {
        let what: String
    }

    private func live(_ round: Int) throws {
        let label = "\(number)-\(round)"
        try enroll()
        tenures.append(label)
        // The import stands in the empty repo alone.
        if blocks.isEmpty, Bool.random(using: &random) { try importRecords(label, round) }
        for index in 0..<size.records where !ledger.isStopping { try write(label, round, index) }
        Thread.sleep(forTimeInterval: Double.random(in: 0...0.05, using: &random))
        guard !ledger.isStopping else { return }
        // The last leave takes everything away, for most.
        let erases = round == size.leaves - 1 ? number % 4 != 0 : Int.random(in: 0..<5, using: &random) < 3
        try leave(erases: erases)
        ledger.left(tenures, erased: erases ? blocks : nil)
        isErased = erases
        if erases { (tenures, blocks) = ([], []) }
    }

    /// Asks until there is an answer.
    /// - Returns: with it, whether an earlier attempt may have had its effect.
    private func ask(
        _ method: String, _ nsid: String, headers: [(String, String)], query: String = "", body: [UInt8]? = nil
    ) throws -> (answer: HTTPAnswer, isRepeated: Bool) {
        var isRepeated = false
        while true {
            if let answer = connection.attempt(method, "/xrpc/\(nsid)\(query)", headers: headers, body: body) {
                // Told to come later, which changes nothing.
                guard answer.status == 429, !ledger.isStopping else { return (answer, isRepeated) }
                Thread.sleep(forTimeInterval: 0.1)
                continue
            }
            isRepeated = true
            if ledger.isStopping { throw Unexpected(what: "stopped before an answer to \(nsid)") }
        }
    }

    private var own: [(String, String)] { [("Authorization", "Bearer \(did)")] }
    private static let json = ("Content-Type", "application/json")

    static var administrator: (String, String) {
        ("Authorization", "Basic " + Data("ines:\(LeaveProof.password)".utf8).base64EncodedString())
    }

    private func enroll() throws {
        ledger.comesBack(tenures)
        isErased = false
        let input: Value = ["did": .string(did), "boundaries": [.string("\(ServedDirectory.service)/general")]]
        let (answer, isRepeated) = try ask(
            "POST", "zone.stratos.admin.enroll", headers: [Self.administrator, Self.json], body: DataModelJSON.encode(input))
        guard answer.status == 200 || (isRepeated && answer.text.contains("AlreadyEnrolled")) else {
            throw Unexpected(what: "enroll: \(answer.status) \(answer.text)")
        }
        let status = try ask("GET", "zone.stratos.enrollment.status", headers: [], query: "?did=\(did)").answer
        guard let key = try DataModelJSON.decode(status.body)["signingKey"]?.stringValue else {
            throw Unexpected(what: "status of a member: \(status.text)")
        }
        keys.append(key)
    }

    private func post(_ label: String, _ name: String) -> Value {
        [
            "$type": .string(LeaveProof.collection), "text": .string("\(Self.mark)\(label)/\(name)"),
            "createdAt": "2026-01-01T00:00:00.000Z",
            "boundary": [
                "$type": "zone.stratos.boundary.defs#Domains", "values": [["value": .string("\(ServedDirectory.service)/general")]],
            ],
        ]
    }

    static func recordKey(_ round: Int, _ index: Int) -> String {
        TID(microseconds: 1_700_000_000_000_000 + Int64(round * 1000 + index), clockID: 3).description
    }

    private func importRecords(_ label: String, _ round: Int) throws {
        let actor = try DID(did)
        let records = try (500..<540).map { index in
            (
                path: RecordPath(collection: try NSID(LeaveProof.collection), recordKey: try RecordKey(Self.recordKey(round, index))),
                record: post(label, "\(index)")
            )
        }
        let file = try RepoFile.make(of: actor, records, signedWith: PrivateKey.generate(.k256))
        let headers = own + [("Content-Type", "application/vnd.ipld.car")]
        let (answer, isRepeated) = try ask("POST", "zone.stratos.repo.importRepo", headers: headers, body: file)
        guard answer.status == 200 || (isRepeated && answer.text.contains("RepoAlreadyExists")) else {
            throw Unexpected(what: "import: \(answer.status) \(answer.text)")
        }
        blocks += records.map { (actor, CID(hashing: DAGCBOR.encode($0.record))) }
    }

    private func write(_ label: String, _ round: Int, _ index: Int) throws {
        let input: Value = [
            "repo": .string(did), "collection": .string(LeaveProof.collection), "rkey": .string(Self.recordKey(round, index)),
            "record": post(label, "\(index)"),
        ]
        let (answer, _) = try ask(
            "POST", "com.atproto.repo.createRecord", headers: own + [Self.json, ("Idempotency-Key", "\(label)/\(index)")],
            body: DataModelJSON.encode(input))
        let value = try DataModelJSON.decode(answer.body)
        guard answer.status == 200, let rev = value["commit"]?["rev"]?.stringValue, let cid = value["cid"]?.stringValue else {
            throw Unexpected(what: "write: \(answer.status) \(answer.text)")
        }
        if rev <= lastRev { ledger.fail("I10: \(did) has rev \(rev) after \(lastRev)") }
        lastRev = rev
        blocks.append((try DID(did), try CID(cid)))
    }

    /// By the account itself where all is to go, with and without a body; by an administrator where it is kept.
    private func leave(erases: Bool) throws {
        let answer: HTTPAnswer
        let isRepeated: Bool
        let gone: Int
        if erases, Bool.random(using: &random) {
            let hasBody = Bool.random(using: &random)
            (answer, isRepeated) = try ask(
                "POST", "zone.stratos.enrollment.unenroll", headers: own + (hasBody ? [Self.json] : []),
                body: hasBody ? Array("{}".utf8) : [])
            gone = 401
        } else {
            let input: Value = ["did": .string(did), "keepContent": .bool(!erases), "reason": "the proof"]
            (answer, isRepeated) = try ask(
                "POST", "zone.stratos.admin.unenroll", headers: [Self.administrator, Self.json], body: DataModelJSON.encode(input))
            gone = 404
        }
        guard answer.status == 200 || (isRepeated && answer.status == gone) else {
            throw Unexpected(what: "leave: \(answer.status) \(answer.text)")
        }
    }
}

/// Reads on every route, as the owner, as a member and as an administrator, and looks at what comes.
///
/// `@unchecked Sendable`: its thread alone touches what changes.
final class LeaveReader: @unchecked Sendable {
    private let actors: Int
    private let ledger: LeaveLedger
    private var random: SeededGenerator
    private var connection: PatientConnection
    private let ended = DispatchSemaphore(value: 0)

    init(port: UInt16, actors: Int, random: SeededGenerator, ledger: LeaveLedger) {
        self.actors = actors
        self.random = random
        self.ledger = ledger
        connection = PatientConnection(port: port)
    }

    func start() {
        let thread = Thread { [self] in
            while !ledger.isStopping { read() }
            ended.signal()
        }
        thread.stackSize = 1 << 20
        thread.start()
    }

    func finished() async throws { try await onThread { [ended] in ended.wait() } }

    private func read() {
        let owner = LeaveProof.actor(Int.random(in: 0..<actors, using: &random))
        let index = Bool.random(using: &random) ? Int.random(in: 0..<4, using: &random) : Int.random(in: 500..<540, using: &random)
        let key = LeavePerson.recordKey(Int.random(in: 0..<20, using: &random), index)
        let place = "collection=\(LeaveProof.collection)&rkey=\(key)"
        let uri = "at://\(owner)/\(LeaveProof.collection)/\(key)"
        let caller = Bool.random(using: &random) ? owner : LeaveProof.reader
        var headers = [("Authorization", "Bearer \(caller)")]
        let target: String
        var input: Value?
        switch Int.random(in: 0..<13, using: &random) {
        case 0: target = "com.atproto.repo.getRecord?repo=\(owner)&\(place)"
        case 1, 2: target = "com.atproto.repo.listRecords?repo=\(owner)&collection=\(LeaveProof.collection)&limit=100"
        case 3: target = "com.atproto.sync.getRecord?did=\(owner)&\(place)"
        case 4, 5: target = "com.atproto.sync.getRepo?did=\(owner)"
        case 6: target = "com.atproto.sync.getLatestCommit?did=\(owner)"
        case 7: target = "com.atproto.repo.describeRepo?repo=\(owner)"
        case 8: target = "zone.stratos.repo.hydrateRecord?uri=\(uri)"
        case 9:
            target = "zone.stratos.repo.hydrateRecords"
            input = ["uris": [.string(uri)]]
        case 10: target = "zone.stratos.enrollment.status?did=\(owner)"
        case 11: target = "zone.stratos.audit.listReads"
        default:
            target = "zone.stratos.admin.getRecord"
            headers = [LeavePerson.administrator]
            input = ["uri": .string(uri), "reason": "the proof"]
        }
        if input != nil { headers.append(("Content-Type", "application/json")) }
        let gone = ledger.gone()
        let answer = connection.attempt(
            input == nil ? "GET" : "POST", "/xrpc/\(target)", headers: headers, body: input.map { DataModelJSON.encode($0) })
        guard let answer else { return }
        if answer.status == 500 { ledger.fail("\(target) as \(caller): \(answer.text)") }
        ledger.look(at: answer, to: "\(target) as \(caller)", gone)
    }
}
