import ATProto
import Foundation

/// The real service as a child process, asked over and over for records that are there and denied, and for records that are not there:
/// neither the bytes of the answers nor the time that they take tell the two apart.
///
/// The service has its own noise, and so have the system and this process, so it is medians that are compared, of pairs whose halves
/// follow each other in random order. Beside them stand two measurements of the measuring itself: absent against absent, which must
/// show nothing, and absent against absent with a delay just above the bound, which must be noticed. The small size compares bytes
/// alone: a test suite's machine is no place for clocks.
package enum TimingProof {
    /// A difference is small enough below one of these.
    static let shareMax = 0.05
    static let nanosecondsMax = 30_000.0

    package static let proof = Proof(
        name: "timing",
        claim: "a denied read is answered with the bytes of an absent one, and its median time differs by less than 5 % or 30 µs"
    ) { request in
        guard let program = Program.built else {
            return ProofResult(counts: [], failures: ["the program `stratos` was not built beside this one"])
        }
        let served = try ServedDirectory(program, path: request.directory + "/data")
        let records = request.small ? 40 : 2000
        for actor in [Reads.owner, Reads.reader] {
            try await served.succeed("enroll", actor, "--boundary", "general")
        }
        try await served.succeed("boundaries", "add", Reads.owner, "writers")
        try await served.start()
        let port = served.port
        let result = try await onThread {
            try Reads.write(records, port: port)
            var trial = try TimingTrial(port: port, records: records, request: request)
            try trial.run()
            return trial.result
        }
        let outcome = try await served.stop()
        var failures = result.failures
        if outcome?.status != 0 { failures.append("the service ended with \(outcome?.status ?? -1)") }
        return ProofResult(counts: result.counts, failures: failures.map { "seed \(request.seed): \($0)" })
    }
}

/// What is asked, as bytes that were made before any clock runs.
private enum Reads {
    static let owner = "did:web:owner.example.com"
    /// Shares no boundary with the records.
    static let reader = "did:web:reader.example.com"
    static let collection = "zone.stratos.feed.post"

    /// Records stand under even numbers, and nothing under odd ones.
    static func key(_ number: Int) -> String { TID(microseconds: 1_790_000_000_000_000 + Int64(number), clockID: 1).description }

    struct Method: Sendable {
        let name: String
        let target: @Sendable (_ number: Int) -> String
    }

    static let methods = [
        Method(name: "getRecord") { "/xrpc/com.atproto.repo.getRecord?repo=\(owner)&collection=\(collection)&rkey=\(key($0))" },
        Method(name: "hydrateRecord") { "/xrpc/zone.stratos.repo.hydrateRecord?uri=at://\(owner)/\(collection)/\(key($0))" },
        Method(name: "sync.getRecord") { "/xrpc/com.atproto.sync.getRecord?did=\(owner)&collection=\(collection)&rkey=\(key($0))" },
        // A collection full of records that are hidden, and one where nothing is.
        Method(name: "listRecords") { number in
            let collection = number.isMultiple(of: 2) ? collection : emptyCollection
            return "/xrpc/com.atproto.repo.listRecords?repo=\(owner)&collection=\(collection)&cursor=\(key(number))"
        },
    ]
    private static let emptyCollection = "zone.stratos.feed.none"

    /// The requests for the keys of so many numbers, from 0.
    static func requests(_ method: Method, numbers: Int) -> [[UInt8]] {
        (0..<numbers).map { HTTPConnection.head("GET", method.target($0), headers: [("Authorization", "Bearer \(reader)")]) }
    }

    static func write(_ count: Int, port: UInt16) throws {
        let connection = try HTTPConnection(port: port)
        for start in stride(from: 0, to: count, by: 100) {
            let writes = (start..<min(count, start + 100)).map { number -> Value in
                [
                    "$type": "com.atproto.repo.applyWrites#create", "collection": .string(collection), "rkey": .string(key(2 * number)),
                    "value": [
                        "$type": .string(collection), "text": .string("record \(number)"), "createdAt": "2026-01-01T00:00:00.000Z",
                        "boundary": ["values": [["value": .string("\(ServedDirectory.service)/writers")]]],
                    ],
                ]
            }
            let answer = try connection.ask(
                "POST", "/xrpc/com.atproto.repo.applyWrites",
                headers: [("Authorization", "Bearer \(owner)"), ("Content-Type", "application/json")],
                body: DataModelJSON.encode(["repo": .string(owner), "writes": .array(writes)]))
            guard answer.status == 200 else { throw ServedDirectory.Failure.notServing(answer.text) }
        }
    }
}

/// One client on one connection.
private struct TimingTrial {
    private let port: UInt16
    private let records: Int
    private let request: ProofRequest
    private let connection: HTTPConnection
    private var random: SeededGenerator
    private(set) var result = ProofResult(counts: [])

    init(port: UInt16, records: Int, request: ProofRequest) throws {
        self.port = port
        self.records = records
        self.request = request
        connection = try HTTPConnection(port: port)
        random = SeededGenerator(seed: request.seed)
    }

    mutating func run() throws {
        for method in Reads.methods {
            try checkThatRecordsAreThere(method)
            let requests = Reads.requests(method, numbers: 2 * records)
            _ = try pairs(request.small ? 0 : 2000, of: requests, right: .odd)
            let times = try pairs(request.small ? 50 : 20_000, of: requests, right: .odd)
            result.counts.append(("\(method.name), pairs", times.left.count))
            guard !request.small else { continue }
            note(method.name, left: "denied", times)
            if !times.isWithinBound { result.failures.append("\(method.name): denied and absent differ: \(times)") }
        }
        if !request.small { try measureTheMeasuring() }
    }

    /// Absent against absent, and against absent with a delay above the bound.
    private mutating func measureTheMeasuring() throws {
        let requests = Reads.requests(Reads.methods[0], numbers: 2 * records)
        let same = try pairs(10_000, of: requests, left: .odd, right: .odd)
        note("absent twice", left: "first", same)
        if !same.isWithinBound { result.failures.append("the measuring finds a difference where there is none: \(same)") }
        let delay = 1.3 * same.bound
        let delayed = try pairs(10_000, of: requests, left: .odd, right: .odd, leftDelay: delay)
        note("absent twice, one delayed by \(Int(delay / 1000)) µs", left: "delayed", delayed)
        if delayed.isWithinBound { result.failures.append("the measuring does not notice a delay of \(Int(delay)) ns: \(delayed)") }
    }

    private func checkThatRecordsAreThere(_ method: Reads.Method) throws {
        let owner = [("Authorization", "Bearer \(Reads.owner)")]
        let answer = try connection.ask("GET", method.target(2), headers: owner)
        guard answer.status == 200, answer.text.contains("record ") else {
            throw ServedDirectory.Failure.notServing("to its owner: \(answer.text)")
        }
    }

    private enum Keys {
        /// Where records are that the reader is denied.
        case even
        case odd
    }

    /// - Parameter leftDelay: nanoseconds, by which every answer on the left is held up.
    private mutating func pairs(
        _ count: Int, of requests: [[UInt8]], left: Keys = .even, right: Keys, leftDelay: Double = 0
    ) throws -> PairedTimes {
        var times = PairedTimes()
        for _ in 0..<count {
            let leftRequest = requests[number(left)]
            let rightRequest = requests[number(right)]
            let isLeftFirst = Bool.random(using: &random)
            let first = try ask(isLeftFirst ? leftRequest : rightRequest, delay: isLeftFirst ? leftDelay : 0)
            let second = try ask(isLeftFirst ? rightRequest : leftRequest, delay: isLeftFirst ? 0 : leftDelay)
            times.left.append(isLeftFirst ? first.nanoseconds : second.nanoseconds)
            times.right.append(isLeftFirst ? second.nanoseconds : first.nanoseconds)
            if Self.comparable(first.answer) != Self.comparable(second.answer), result.failures.count < 20 {
                result.failures.append("two answers differ: \(Self.comparable(first.answer)) and \(Self.comparable(second.answer))")
            }
        }
        return times
    }

    private mutating func number(_ keys: Keys) -> Int {
        2 * Int.random(in: 0..<records, using: &random) + (keys == .even ? 0 : 1)
    }

    private func ask(_ request: [UInt8], delay: Double) throws -> (answer: HTTPAnswer, nanoseconds: Double) {
        let start = Clocks.wall()
        try connection.send(request)
        let answer = try connection.answer()
        let answered = Clocks.wall()
        while delay > 0, Clocks.wall() - answered < delay / 1e9 {}
        return (answer, (Clocks.wall() - start) * 1e9)
    }

    /// All of an answer but for what no two answers have in common.
    private static func comparable(_ answer: HTTPAnswer) -> String {
        let headers = answer.headers.filter { !["date", "x-trace-id", "dpop-nonce"].contains($0.name) }
        return "\(answer.status) \(headers.map { "\($0.name): \($0.value)" }) \(answer.text)"
    }

    private mutating func note(_ name: String, left: String, _ times: PairedTimes) {
        result.counts.append(("\(name), \(left), median ns", Int(times.leftMedian)))
        result.counts.append(("\(name), absent, median ns", Int(times.rightMedian)))
        result.counts.append(("\(name), difference ns", Int(times.difference)))
        result.counts.append(("\(name), bound ns", Int(times.bound)))
    }
}

/// Nanoseconds of requests that were made in pairs.
private struct PairedTimes: CustomStringConvertible {
    var left: [Double] = []
    var right: [Double] = []

    var leftMedian: Double { Self.median(left) }
    var rightMedian: Double { Self.median(right) }
    var difference: Double { leftMedian - rightMedian }
    /// The larger of the two bounds: below one of them is enough.
    var bound: Double { max(TimingProof.shareMax * rightMedian, TimingProof.nanosecondsMax) }
    var isWithinBound: Bool { abs(difference) < bound }

    var description: String { "medians \(Int(leftMedian)) and \(Int(rightMedian)) ns, bound \(Int(bound)) ns" }

    private static func median(_ values: [Double]) -> Double { values.isEmpty ? 0 : values.sorted()[values.count / 2] }
}
