import ATProto
import Devnet
import Foundation
import Keys
import Simulation
import Synchronization

/// What passes through a service in a day, once each: every kind of credential, writes, reads, imports, and refusals of each kind.
/// Everything of it that is nobody's business is kept in `watch`.
final class Traffic: Sendable {
    let watch = LogWatch()
    let member: DevnetUser
    let other: DevnetUser
    private let stranger: DevnetUser
    private let devnet: Devnet
    private let port: UInt16
    private let publicURL: String
    private let counter = Mutex(0)
    private let nonce = Mutex<String?>(nil)

    /// Requests that were answered.
    var count: Int { counter.withLock { $0 } }

    init(_ program: ProgramUnderTest, _ devnet: Devnet) throws {
        self.devnet = devnet
        port = program.served.port
        publicURL = "http://localhost:\(program.served.port)"
        let (watch, names) = (watch, ["quiet-member.test", "quiet-other.test", "quiet-stranger.test"])
        let users = try names.map { name in
            watch.keep(name, as: "a handle")
            let key = PrivateKey.generate(.k256)
            try watch.keep(key, as: "a member's key")
            let user = try devnet.createAccount(handle: name, repoKey: key)
            try watch.keep(user.clientKey, as: "a client's key")
            return user
        }
        (member, other, stranger) = (users[0], users[1], users[2])
    }

    // Credentials

    private func dpop(_ verb: String, _ method: String) throws -> DPoPRequest {
        let token = try member.accessToken()
        return DPoPRequest(
            token: token,
            proof: try member.dpopProof(
                method: verb, url: "\(publicURL)/xrpc/\(method)", nonce: nonce.withLock { $0 }, accessToken: try token.text))
    }

    private func headers(_ request: DPoPRequest) throws -> [(String, String)] {
        let (authorization, proofs) = try request.headers()
        return authorization.map { ("Authorization", $0) } + proofs.map { ("DPoP", $0) }
    }

    private func serviceToken(_ method: String) throws -> ServiceTokenRequest {
        ServiceTokenRequest(token: try member.serviceAuth(audience: ServedDirectory.service, method: method))
    }

    private func headers(_ request: ServiceTokenRequest) throws -> [(String, String)] {
        try request.headers().map { ("Authorization", $0) }
    }

    private func basic(_ password: String) -> [(String, String)] {
        watch.keep(password, as: "a password")
        return [("Authorization", "Basic " + Data("ines:\(password)".utf8).base64EncodedString())]
    }

    // Requests

    @discardableResult
    private func ask(
        _ verb: String, _ target: String, _ headers: [(String, String)] = [], type: String = "application/json", body: [UInt8]? = nil
    ) async throws -> HTTPAnswer {
        for (name, value) in headers {
            switch name {
            case "Authorization": watch.keep(authorization: value)
            case "DPoP": watch.keep(value, as: "a proof")
            default: watch.keep(value, as: name)
            }
        }
        let (port, sent) = (port, headers + (body == nil ? [] : [("Content-Type", type)]))
        let answer = try await onThread { try HTTPConnection(port: port).ask(verb, target, headers: sent, body: body) }
        counter.withLock { $0 += 1 }
        if let given = answer["dpop-nonce"] {
            watch.keep(given, as: "a nonce")
            nonce.withLock { $0 = given }
        }
        return answer
    }

    /// - Parameter status: what the answer must have, so that the traffic is what it seems.
    private func expect(_ status: Int, _ answer: HTTPAnswer) throws {
        guard answer.status == status else { throw ServedDirectory.Failure.notServing("\(answer.status) \(answer.text), not \(status)") }
    }

    private func creation(_ text: String) -> [UInt8] {
        watch.keep(text, as: "a record's text")
        let record: Value = [
            "$type": .string(Service.post), "text": .string(text), "createdAt": "2026-01-01T00:00:00.000Z",
            "boundary": ["values": [["value": .string("\(ServedDirectory.service)/general")]]],
        ]
        return DataModelJSON.encode([
            "repo": .string(member.did.description), "collection": .string(Service.post), "record": record,
        ])
    }

    private var list: String {
        Service.target("com.atproto.repo.listRecords", [("repo", member.did.description), ("collection", Service.post)])
    }

    /// What is answered with 200.
    func serve(text: String, password: String) async throws {
        let create = "com.atproto.repo.createRecord"
        try await ask("GET", "/health")
        let key = [("Idempotency-Key", "an-idempotency-key-of-30-bytes")]
        let first = try await ask("POST", "/xrpc/\(create)", try headers(dpop("POST", create)) + key, body: creation(text))
        try expect(200, first)
        try expect(200, try await ask("POST", "/xrpc/\(create)", try headers(dpop("POST", create)) + key, body: creation(text)))
        let second = text + ", and it is raining"
        try expect(200, try await ask("POST", "/xrpc/\(create)", try headers(serviceToken(create)), body: creation(second)))
        let method = "com.atproto.repo.listRecords"
        for credentials in [try headers(dpop("GET", method)), try headers(serviceToken(method)), try bearer()] {
            let answer = try await ask("GET", list, credentials)
            guard answer.text.contains(text) else { throw ServedDirectory.Failure.notServing(answer.text) }
        }
        let uri = try DataModelJSON.decode(first.body)["uri"] ?? .null
        let (reason, read) = ("a reason that concerns nobody", "/xrpc/zone.stratos.admin.getRecord")
        watch.keep(reason, as: "a reason")
        try expect(
            200, try await ask("POST", read, basic(password), body: DataModelJSON.encode(["uri": uri, "reason": .string(reason)])))
        watch.keep(authorization: "Bearer \(password)")
        let listing = "/xrpc/zone.stratos.admin.listEnrollments"
        for credentials in [basic(password), [("Authorization", "Bearer \(password)")]] {
            try expect(200, try await ask("GET", listing, credentials))
        }
        let carried = text + ", from elsewhere"
        watch.keep(carried, as: "a record's text")
        let car = try ImportTests.repo(
            of: other.did.description,
            [("\(Service.post)/3lq2222222222", ImportTests.post(carried, in: .string("\(ServedDirectory.service)/general")))])
        let upload = "zone.stratos.repo.importRepo"
        let token = try other.serviceAuth(audience: ServedDirectory.service, method: upload).text
        try expect(
            200,
            try await ask("POST", "/xrpc/\(upload)", [("Authorization", "Bearer \(token)")], type: "application/vnd.ipld.car", body: car))
        for name in [member.handle, stranger.handle] {
            try await ask("GET", Service.target("com.atproto.repo.describeRepo", [("repo", name.description)]), try bearer())
        }
    }

    /// Somebody joins and leaves, and others try with what they stole.
    func join() async throws {
        let name = "quiet-joiner.test"
        watch.keep(name, as: "a handle")
        let joiner = try devnet.createAccount(handle: name)
        for leavesAtTheEnd in [true, false] {
            let began = try await ask("GET", "/oauth/authorize?handle=\(joiner.did)")
            try expect(302, began)
            let cookie = began["set-cookie"]?.split(separator: ";").first.map(String.init) ?? ""
            watch.keep(String(cookie.split(separator: "=").last ?? ""), as: "a cookie")
            let location = began["location"] ?? ""
            watch.keep(location.split(separator: "request_uri").last.map(String.init) ?? "", as: "what a server keeps a request under")
            let callback = try devnet.consent(at: location, as: joiner, leavesAtTheEnd ? .accept : .deny)
            for item in URLComponents(string: callback)?.queryItems ?? [] where ["code", "state"].contains(item.name) {
                watch.keep(item.value ?? "", as: item.name)
            }
            let target = String(callback.dropFirst("http://127.0.0.1:\(port)".count))
            try expect(500, try await ask("GET", target))
            try expect(leavesAtTheEnd ? 200 : 500, try await ask("GET", target, [("Cookie", cookie)]))
            try expect(500, try await ask("GET", target, [("Cookie", cookie)]))
            try expect(500, try await ask("GET", "\(target)&code=another-code-of-nobody", [("Cookie", cookie)]))
            guard leavesAtTheEnd else { continue }
            let token = try joiner.accessToken()
            for (verb, path) in [("GET", "/oauth/status"), ("POST", "/oauth/revoke")] {
                let proof = try joiner.dpopProof(
                    method: verb, url: publicURL + path, nonce: nonce.withLock { $0 }, accessToken: try token.text)
                try expect(
                    200, try await ask(verb, path, [("Authorization", "DPoP \(try token.text)"), ("DPoP", try proof.text)]))
            }
        }
        try expect(400, try await ask("GET", "/oauth/authorize?handle=quiet-nobody-at-all"))
    }

    /// A bare DID, as in development: nothing to hide.
    private func bearer() throws -> [(String, String)] { [("Authorization", "Bearer \(member.did)")] }

    /// What is refused: forged credentials, wrong passwords, inputs that are none.
    func refuse(text: String, password: String) async throws {
        let method = "com.atproto.repo.listRecords"
        let context = MutationContext(
            now: Int64(Date.now.timeIntervalSince1970), other: other, stranger: stranger, service: ServedDirectory.service,
            url: "\(publicURL)/xrpc/\(method)")
        var refused = 0
        for mutation in Mutation<DPoPRequest>.tokens + Mutation<DPoPRequest>.proofMutations {
            var request = try dpop("GET", method)
            try mutation.change(&request, context)
            if try await ask("GET", list, try headers(request)).status == mutation.status { refused += 1 }
        }
        for mutation in Mutation<ServiceTokenRequest>.serviceTokens where !mutation.isForProceduresAlone {
            var request = try serviceToken(method)
            try mutation.change(&request, context)
            if try await ask("GET", list, try headers(request)).status == mutation.status { refused += 1 }
        }
        // In development a few of them are credentials: those that only name somebody.
        guard refused > 80 else { throw ServedDirectory.Failure.notServing("\(refused) were refused") }
        for wrong in [String(password.dropLast()), "another wrong password"] {
            try expect(401, try await ask("GET", "/xrpc/zone.stratos.admin.listEnrollments", basic(wrong)))
        }
        let create = "/xrpc/com.atproto.repo.createRecord"
        let body = creation(text)
        for broken in [Array(body.dropLast(3)), body + body, Array("\(text)".utf8), [UInt8](repeating: 0x7B, count: 70)] {
            try expect(400, try await ask("POST", create, try bearer(), body: broken))
        }
        try expect(400, try await ask("POST", create, try bearer(), type: "text/plain; of=\"\(text)\"", body: body))
        try expect(404, try await ask("GET", "/\(try member.accessToken().text)"))
        try await ask("GET", "/xrpc/\(try member.accessToken().text)?\(Base64URL.encode(Array(text.utf8)))")
        try await ask("PUT", list, try bearer())
    }

    /// What breaks on the way, and what others do not answer.
    func fail() async throws {
        let (port, token) = (port, try member.accessToken().text)
        watch.keep(token, as: "a token")
        let head = HTTPConnection.head(
            "POST", "/xrpc/com.atproto.repo.createRecord",
            headers: [
                ("Authorization", "Bearer \(member.did)"), ("Content-Type", "application/json"), ("Content-Length", "5000"),
            ])
        let part = creation("a text that comes only in part").dropLast(9)
        try await onThread {
            // Half a body; a line that is no header; no HTTP at all.
            for bytes in [
                head + part, Array("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \(token)\r\nno header \(token)\r\n\r\n".utf8),
                Array("\(token)\r\n\r\n".utf8),
            ] {
                let connection = try HTTPConnection(port: port, timeout: .milliseconds(200))
                try connection.send(bytes)
                connection.endSending()
                _ = connection.isClosedByPeer()
            }
        }
        devnet.setFault(.error(500), on: .plc)
        let unknown = try devnet.createAccount(handle: "quiet-unknown.test")
        watch.keep("quiet-unknown.test", as: "a handle")
        let proof = try unknown.serviceAuth(audience: ServedDirectory.service, method: "com.atproto.repo.listRecords").text
        try await ask("GET", list, [("Authorization", "Bearer \(proof)")])
        devnet.clearFaults()
    }
}
