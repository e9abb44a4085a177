import ATProto
import Commands
import Devnet
import Keys
import Simulation

/// Suite `auth`: reads and creates by callers who prove themselves as they do in the field, with the accounts of a devnet. Every request
/// has a credential of its own, signed before the clock starts.
enum AuthSuite {
    static let suite = BenchmarkSuite(
        name: "auth",
        summary: "authenticated reads and creates over HTTP, by access tokens with DPoP and by inter-service tokens; what signatures cost",
        subjects: [
            .init(name: "dpop") { try await figures($0, .dpop) }, .init(name: "service-token") { try await figures($0, .serviceToken) },
            .init(name: "signatures", run: SignatureCosts.figures),
        ])

    private static let connections = 32
    private static let readMethod = "com.atproto.repo.getRecord"
    private static let writeMethod = "com.atproto.repo.createRecord"

    /// 32 members with 1,000 records each, one connection each.
    private static func figures(_ request: BenchmarkRequest, _ kind: SignedRequests.Kind) async throws -> [Figure] {
        try await Devnet.run { devnet in
            let users = try (0..<connections).map { try devnet.createAccount(handle: "member\($0).test") }
            let directory = try await OpenDirectory(request.directory)
            try await directory.enroll(users.map(\.did))
            var keys: [[RecordKey]] = []
            for (index, user) in users.enumerated() {
                let seed = request.seed + UInt64(index)
                keys.append(try await directory.importPosts(request.size(1000, quick: 50), into: user.did, seed: seed))
            }
            directory.close()
            let server = try ServedDirectory(request.directory, settings: ["STRATOS_PLC_URL": devnet.plcURL])
            let signer = try SignedRequests(kind: kind, users: users, port: server.port)
            let costs = try SignatureCosts(seconds: request.seconds(1))

            var random = SeededGenerator(seed: request.seed)
            let reads = try await signer.sign(request.size(2600, quick: 200), verb: "GET", method: readMethod) { user in
                let key = keys[user][Int.random(in: 0..<keys[user].count, using: &random)]
                let target = "/xrpc/\(readMethod)?repo=\(users[user].did)&collection=\(RecordRules.postCollection)&rkey=\(key)"
                return SignedRequests.Plain(target: target, body: nil)
            }
            var figures = try measure(
                "getRecord", reads, on: server, seconds: request.isQuick ? 0.2 : 5, rate: .atLeast(8000),
                signatures: costs.verified(by: kind), among: "verified")
            var posts = PostRequests(seed: request.seed)
            let creates = try await signer.sign(request.size(1200, quick: 200), verb: "POST", method: writeMethod) { user in
                SignedRequests.Plain(target: "/xrpc/\(writeMethod)", body: posts.nextBody(by: users[user].did))
            }
            figures += try measure(
                "createRecord", creates, on: server, seconds: request.isQuick ? 0.2 : 8, rate: .atLeast(2000),
                signatures: costs.verified(by: kind) + costs.made, among: "verified and made")
            figures.append(Figure("server, peak memory", Double(try server.process.peakMemory()) / 1e6, .megabytes))
            try server.stop()
            return figures
        }
    }

    /// - Parameter signatures: microseconds of processor for those of one request.
    private static func measure(
        _ name: String, _ requests: [[UInt8]], on server: ServedDirectory, seconds: Double, rate: Figure.Target, signatures: Double,
        among words: String
    ) throws -> [Figure] {
        var unsent = requests[...]
        let figures = try server.measure(name, connections: connections, seconds: seconds, rate: rate) { _ in
            guard let next = unsent.popFirst() else {
                throw BenchmarkFailure("\(name): the requests that were signed before are used up")
            }
            return next
        }
        guard let each = figures.first(where: { $0.name == "\(name), server, each" })?.value else { return figures }
        return figures + [
            Figure("\(name), signatures \(words), each (measured alone × count)", signatures, .microseconds),
            Figure("\(name), their share of the server's processor", signatures / each * 100, .percent),
        ]
    }
}

/// What single signatures cost on one core, with the code that the service uses for them.
struct SignatureCosts {
    /// Microseconds of processor.
    private let verifyP256: Double
    private let verifyK256: Double
    private let signP256: Double
    private let signK256: Double

    /// - Parameter seconds: for all of it, roughly.
    init(seconds: Double) throws {
        let message = [UInt8](repeating: 0x61, count: 500)
        func costs(_ curve: Curve) throws -> (verify: Double, sign: Double) {
            let key = PrivateKey.generate(curve)
            let signature = try key.sign(message)
            let verify = Self.each(seconds / 4) { key.publicKey.verifies(signature, of: message, allowHighS: true) }
            let sign = Self.each(seconds / 4) { (try? key.sign(message)) != nil }
            return (verify, sign)
        }
        (verifyP256, signP256) = try costs(.p256)
        (verifyK256, signK256) = try costs(.k256)
    }

    private static func each(_ seconds: Double, _ body: () -> Bool) -> Double {
        let start = Clocks.processor()
        var count = 0
        while Clocks.processor() - start < seconds {
            for _ in 0..<50 { precondition(body(), "a signature of this run is good") }
            count += 50
        }
        return (Clocks.processor() - start) / Double(count) * 1e6
    }

    /// Of one request: a proof of P-256, as the service remembers which access tokens it has verified; or a token of secp256k1, the curve of
    /// the devnet's accounts.
    func verified(by kind: SignedRequests.Kind) -> Double {
        switch kind {
        case .dpop: verifyP256
        case .serviceToken: verifyK256
        }
    }

    /// Of one write: the commit's under the actor's key, and the event's under the service's.
    var made: Double { signP256 + signK256 }

    static func figures(_ request: BenchmarkRequest) async throws -> [Figure] {
        let costs = try SignatureCosts(seconds: request.seconds(4))
        return [
            Figure("verify, P-256", costs.verifyP256, .microseconds), Figure("verify, secp256k1", costs.verifyK256, .microseconds),
            Figure("sign, P-256", costs.signP256, .microseconds), Figure("sign, secp256k1", costs.signK256, .microseconds),
        ]
    }
}
