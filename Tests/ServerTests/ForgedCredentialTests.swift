import ATProto
import Authorization
import Devnet
import Engine
import HTTPTypes
import Hummingbird
import Keys
import Server
import Simulation
import Synchronization
import Testing

/// Credentials of a real account of the devnet, each with one thing changed, and the unchanged one beside it every time.
@Suite("HTTP: forged credentials")
struct ForgedCredentialTests {
    /// A service that believes the devnet's directory and servers, and counts what is asked of which host.
    private final class Subject: Sendable {
        let service: Service
        let devnet: Devnet
        let member: DevnetUser
        let context: MutationContext
        let authenticator: Authenticator
        /// Another one, that remembers nothing.
        let makeAuthenticator: @Sendable () throws -> Authenticator
        let asked: Asked

        /// Seconds since 1970; it stands still, so that no mutation of a time ages while the others run.
        static let now: Int64 = 1_790_000_000

        init(_ devnet: Devnet) async throws {
            self.devnet = devnet
            asked = Asked()
            member = try devnet.createAccount(handle: "member.test")
            let asked = asked
            let keys = try Self.keys(devnet, asked)
            let made = Mutex<Authenticator?>(nil)
            let make: @Sendable (Engine) throws -> Authenticator = { engine in
                Authenticator(
                    service: try DID(Service.did), appViews: [], nonces: DPoPNonces(serviceKey: Service.key), keys: keys,
                    administrators: nil, believesBareDIDs: false, isEnrolled: { try await engine.isEnrolled($0) }, now: { Self.now })
            }
            var settings = Service.Settings()
            settings.authenticator = { engine in
                let authenticator = try make(engine)
                made.withLock { $0 = authenticator }
                return authenticator
            }
            service = try await Service(settings)
            authenticator = try #require(made.withLock { $0 })
            makeAuthenticator = { [engine = service.engine] in try make(engine) }
            let other = try devnet.createAccount(handle: "other.test")
            for user in [member, other] { try await service.enroll(user.did.description, ["general"]) }
            context = MutationContext(
                now: Self.now, other: other, stranger: try devnet.createAccount(handle: "stranger.test"), service: Service.did,
                url: Service.publicURL)
        }

        private static func keys(_ devnet: Devnet, _ asked: Asked) throws -> CallerKeys {
            let client = OutboundClient(filter: .any, userAgent: "test")
            let microseconds: @Sendable () -> Int64 = { (now + asked.secondsPassed) * 1_000_000 }
            let outbound = Outbound { request async throws(OutboundError) in
                asked.note(request.url)
                return try await client.outbound.send(request)
            }
            let identities = IdentityResolver(
                outbound: outbound, plcURL: devnet.plcURL, allowsHTTP: true, now: microseconds, txt: { _ in [] })
            return CallerKeys(
                identities: identities,
                issuers: TokenIssuers(resolver: identities, outbound: outbound, allowsHTTP: true, now: microseconds))
        }

        func context(for call: Call) -> MutationContext {
            MutationContext(
                now: context.now, other: context.other, stranger: context.stranger, service: context.service, url: url(call.method))
        }

        func url(_ method: String) -> String { "\(Service.publicURL)/xrpc/\(method)" }

        /// A query by default; a procedure writes a post.
        func ask(
            _ call: Call, authorization: [String], proofs: [String] = [], through router: RouterResponder<ConnectionContext>? = nil
        ) async throws -> Answer {
            var headers = HTTPFields()
            for value in authorization { headers.append(HTTPField(name: .authorization, value: value)) }
            for value in proofs { headers.append(HTTPField(name: HTTPField.Name("DPoP")!, value: value)) }
            switch call {
            case .query:
                let target = Service.target(call.method, [("repo", member.did.description), ("collection", Service.post)])
                return try await service.ask(.get, target, headers: headers, through: router)
            case .procedure:
                let input: Value = [
                    "repo": .string(member.did.description), "collection": .string(Service.post),
                    "record": Service.postRecord("forged", in: "general"),
                ]
                return try await service.call(call.method, input, headers: headers, through: router)
            }
        }

        func dpop(_ call: Call) throws -> DPoPRequest {
            let token = try member.accessToken()
            return DPoPRequest(
                token: token,
                proof: try member.dpopProof(
                    method: call.verb, url: url(call.method), nonce: authenticator.nonce, accessToken: try token.text))
        }

        func serviceToken(_ call: Call) throws -> ServiceTokenRequest {
            ServiceTokenRequest(token: try member.serviceAuth(audience: Service.did, method: call.method))
        }

        var events: UInt64 { get async throws { try await service.store.statistics().events } }
    }

    /// The hosts that were asked.
    private final class Asked: Sendable {
        private let hosts = Mutex<Set<String>>([])
        private let passed = Mutex<Int64>(0)

        /// How much later it is for those who look things up: they ask again for a document only after a while.
        var secondsPassed: Int64 { passed.withLock { $0 } }
        func pass(seconds: Int64) { passed.withLock { $0 += seconds } }

        func note(_ url: String) {
            let host = url.split(separator: "/", omittingEmptySubsequences: true).dropFirst().first.map(String.init) ?? url
            _ = hosts.withLock { $0.insert(host) }
        }

        var all: Set<String> { hosts.withLock { $0 } }
    }

    enum Call: CaseIterable, Sendable {
        case query, procedure

        var method: String { self == .query ? "com.atproto.repo.listRecords" : "com.atproto.repo.createRecord" }
        var verb: String { self == .query ? "GET" : "POST" }
    }

    private func run(_ body: (Subject) async throws -> Void) async throws {
        var configuration = DevnetConfiguration()
        configuration.clock = { Subject.now * 1000 }
        try await Devnet.run(configuration) { devnet in
            let subject = try await Subject(devnet)
            try await body(subject)
            // Nobody else was asked anything: no address that a token named.
            let known = Set([devnet.plcURL, devnet.pdsURL].map { String($0.dropFirst("http://".count)) })
            #expect(subject.asked.all.isSubset(of: known), "asked: \(subject.asked.all)")
        }
    }

    private func expect<Request>(_ answer: Answer, refusedAs mutation: Mutation<Request>, _ call: Call) {
        #expect(answer.status == mutation.status, "\(call) \(mutation): \(answer.text)")
        #expect(answer["error"]?.stringValue == mutation.error, "\(call) \(mutation): \(answer.text)")
        #expect(answer[header: HTTPField.Name("DPoP-Nonce")!] != nil, "\(call) \(mutation): no nonce for the next try")
        if let challenge = mutation.challenge {
            #expect(answer[header: .wwwAuthenticate]?.contains(challenge) == true, "\(call) \(mutation): \(answer.headers)")
        }
    }

    @Test("of an access token and its proof, every single change is refused, and the unchanged one is taken", arguments: Call.allCases)
    func dpop(_ call: Call) async throws {
        let mutations = Mutation<DPoPRequest>.tokens + Mutation<DPoPRequest>.proofMutations
        #expect(mutations.count >= 40)
        try await run { subject in
            for mutation in mutations {
                let unchanged = try subject.dpop(call).headers()
                let accepted = try await subject.ask(call, authorization: unchanged.authorization, proofs: unchanged.proofs)
                #expect(accepted.status == 200, "the unchanged one: \(accepted.text)")
                let before = try await subject.events
                var request = try subject.dpop(call)
                try mutation.change(&request, subject.context(for: call))
                let forged = try request.headers()
                expect(try await subject.ask(call, authorization: forged.authorization, proofs: forged.proofs), refusedAs: mutation, call)
                #expect(try await subject.events == before, "\(mutation) wrote something")
            }
        }
    }

    @Test("of an inter-service token, every single change is refused, and the unchanged one is taken", arguments: Call.allCases)
    func serviceToken(_ call: Call) async throws {
        let mutations = Mutation<ServiceTokenRequest>.serviceTokens
        #expect(mutations.count >= 40)
        try await run { subject in
            for mutation in mutations where call == .procedure || !mutation.isForProceduresAlone {
                let accepted = try await subject.ask(call, authorization: try subject.serviceToken(call).headers())
                #expect(accepted.status == 200, "the unchanged one: \(accepted.text)")
                let before = try await subject.events
                var request = try subject.serviceToken(call)
                try mutation.change(&request, subject.context(for: call))
                expect(try await subject.ask(call, authorization: try request.headers()), refusedAs: mutation, call)
                #expect(try await subject.events == before, "\(mutation) wrote something")
            }
        }
    }

    @Test("what proved one call proves no second one: a proof for anything, a service token for procedures", arguments: Call.allCases)
    func replay(_ call: Call) async throws {
        try await run { subject in
            let headers = try subject.dpop(call).headers()
            #expect(try await subject.ask(call, authorization: headers.authorization, proofs: headers.proofs).status == 200)
            let again = try await subject.ask(call, authorization: headers.authorization, proofs: headers.proofs)
            ServerTests.expect(again, 401, "AuthenticationRequired")
            let token = try subject.serviceToken(call).headers()
            #expect(try await subject.ask(call, authorization: token).status == 200)
            let second = try await subject.ask(call, authorization: token)
            #expect(second.status == (call == .query ? 200 : 401), "\(second.text)")
        }
    }

    @Test("a procedure's credential is spent with its event: a process that never saw it refuses it too")
    func replayAfterRestart() async throws {
        try await run { subject in
            let headers = try subject.dpop(.procedure).headers()
            #expect(try await subject.ask(.procedure, authorization: headers.authorization, proofs: headers.proofs).status == 200)
            let before = try await subject.events
            let restarted = try subject.service.router(with: subject.makeAuthenticator())
            let again = try await subject.ask(
                .procedure, authorization: headers.authorization, proofs: headers.proofs, through: restarted)
            ServerTests.expect(again, 401, "AuthenticationRequired")
            #expect(try await subject.events == before)
        }
    }

    @Test("signatures with a high s, as browsers and public servers make them, are taken in tokens")
    func highS() async throws {
        try await run { subject in
            for _ in 0..<4 {
                var request = try subject.dpop(.query)
                request.token.signatureBytes = try request.token.signature.withHighS(.p256)
                let text = try request.token.text
                request.proof.claims["ath"] = .string(Base64URL.encode(CID(hashing: Array(text.utf8), codec: .raw).digest))
                request.proof.signatureBytes = try request.proof.signature.withHighS(.p256)
                let headers = try request.headers()
                #expect(try await subject.ask(.query, authorization: headers.authorization, proofs: headers.proofs).status == 200)
                var token = try subject.serviceToken(.query)
                token.token.signatureBytes = try token.token.signature.withHighS(.k256)
                #expect(try await subject.ask(.query, authorization: try token.headers()).status == 200)
            }
        }
    }

    @Test("a new signing key in the DID document is taken up at the first signature that the old one does not verify")
    func newKey() async throws {
        try await run { subject in
            #expect(try await subject.ask(.query, authorization: try subject.serviceToken(.query).headers()).status == 200)
            try subject.devnet.replaceRepoKey(of: subject.member.did)
            subject.asked.pass(seconds: 11)
            #expect(try await subject.ask(.query, authorization: try subject.serviceToken(.query).headers()).status == 200)
        }
    }

    @Test("a server whose tokens are symmetric is told the way out")
    func symmetric() async throws {
        var configuration = DevnetConfiguration()
        configuration.clock = { Subject.now * 1000 }
        configuration.tokens = .hs256
        try await Devnet.run(configuration) { devnet in
            let subject = try await Subject(devnet)
            let headers = try subject.dpop(.query).headers()
            let answer = try await subject.ask(.query, authorization: headers.authorization, proofs: headers.proofs)
            ServerTests.expect(answer, 401, "AuthenticationRequired")
            #expect(answer["message"]?.stringValue?.contains("com.atproto.server.getServiceAuth") == true)
            #expect(try await subject.ask(.query, authorization: try subject.serviceToken(.query).headers()).status == 200)
        }
    }
}

extension ForgedCredentialTests.Call: CustomStringConvertible {
    var description: String { self == .query ? "query" : "procedure" }
}

extension [UInt8] {
    /// The other signature of the same message: s becomes the order of the curve less s, where it is the lower one.
    func withHighS(_ curve: Curve) -> [UInt8] {
        let order: [UInt8] =
            switch curve {
            case .p256:
                [
                    0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC, 0xE6, 0xFA, 0xAD, 0xA7,
                    0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
                ]
            case .k256:
                [
                    0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE, 0xBA, 0xAE, 0xDC,
                    0xE6, 0xAF, 0x48, 0xA0, 0x3B, 0xBF, 0xD2, 0x5E, 0x8C, 0xD0, 0x36, 0x41, 0x41,
                ]
            }
        var bytes = self
        var borrow = 0
        for index in stride(from: 31, through: 0, by: -1) {
            let difference = Int(order[index]) - Int(self[32 + index]) - borrow
            bytes[32 + index] = UInt8(truncatingIfNeeded: difference)
            borrow = difference < 0 ? 1 : 0
        }
        return bytes
    }
}
