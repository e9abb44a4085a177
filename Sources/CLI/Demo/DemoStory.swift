import ATProto
import Client
import Engine
import Keys

/// What the demo goes through, in order. Every request is one that an app, a browser or an operator would send.
struct DemoStory: ~Copyable {
    private let world: DemoWorld
    private let service: String
    private var transcript = Transcript()
    private let collection = "zone.stratos.feed.post"

    init(world: DemoWorld, service: String) {
        self.world = world
        self.service = service
    }

    private var alice: DemoWorld.Person { world.people[0] }
    private var bob: DemoWorld.Person { world.people[1] }

    mutating func tell() async throws {
        try await world.awaitService()
        introduce()
        for person in world.people { try await join(person) }
        try await grant()
        let shared = try await write("For everybody in 'general'", in: "general", title: "Alice writes a post that 'general' may read")
        try await read(shared, as: bob, title: "Bob is in 'general' and reads it")
        let hidden = try await write("For writers only", in: "writers", title: "Alice writes another, for 'writers'")
        try await refuse(hidden)
        try await showStub(of: shared)
        try await prove(shared)
        try await rebuild()
        try invite()
    }

    // MARK: Who is here

    private mutating func introduce() {
        transcript.step("A public server, a directory of identities, and Stratos, all on this machine")
        transcript.show([
            "stratos": .string(world.url), "did": .string(service), "pds": .string(world.pdsURL), "plc": .string(world.plcURL),
            "data": .string(world.directory),
        ])
        for person in world.people { transcript.say("\(person.handle) is \(person.did)") }
    }

    // MARK: Joining

    private mutating func join(_ person: DemoWorld.Person) async throws {
        transcript.step("\(person.name.capitalized) joins: OAuth at the person's own server, whose consent page the demo answers")
        let start = "\(world.url)/oauth/authorize?handle=\(person.did)"
        var here = start
        var cookies: [String] = []
        // A browser goes where it is sent; the last place is the person's own server, which asks for consent.
        var answer = try await world.get(here, accept: "text/html")
        transcript.request("GET", here)
        while answer.status == 302, let location = answer.location, location.hasPrefix("http://127.0.0.1") || location.hasPrefix(world.url)
        {
            here = location
            answer = try await world.get(here, accept: "text/html")
            transcript.request("GET", here)
        }
        guard answer.status == 302, let consent = answer.location else { throw unexpected(here, answer) }
        if let cookie = answer.cookie?.split(separator: ";").first { cookies.append(String(cookie)) }
        transcript.answer(302, "to \(consent.prefix { $0 != "?" })")
        let answered = try await world.post(
            world.pdsURL + "/devnet/consent",
            ["url": .string(consent), "account": .string(person.handle), "decision": "accept"])
        guard let callback = answered.json?["location"]?.stringValue else { throw unexpected("/devnet/consent", answered) }
        transcript.say("\(person.name.capitalized) signs in there, and agrees")
        transcript.request("GET", "\(callback.prefix { $0 != "?" })?code=…&state=…&iss=…")
        let joined = try await world.get(callback, headers: cookies.isEmpty ? [:] : ["Cookie": cookies.joined(separator: "; ")])
        guard joined.status == 200, let body = joined.json else { throw unexpected("/oauth/callback", joined) }
        transcript.answer(200, body)
    }

    private mutating func grant() async throws {
        transcript.step("The operator lets Alice into 'writers' as well")
        transcript.command("stratos boundaries add \(alice.did) writers --data-dir \(world.directory)")
        for value in try await world.operate(.changeBoundaries(did: alice.did, .add(["writers"]))) { transcript.show(value) }
    }

    // MARK: Writing and reading

    /// What a person's app sends to Stratos: a token for one method, signed by the person's own server.
    private func token(of person: DemoWorld.Person, for method: String) async throws -> String {
        let session = try await world.post(
            world.pdsURL + "/xrpc/com.atproto.server.createSession",
            ["identifier": .string(person.handle), "password": .string(person.password)])
        guard let access = session.json?["accessJwt"]?.stringValue else { throw unexpected("createSession", session) }
        let answer = try await world.get(
            "\(world.pdsURL)/xrpc/com.atproto.server.getServiceAuth?aud=\(service.replacing("%", with: "%25"))&lxm=\(method)",
            headers: ["Authorization": "Bearer \(access)"])
        guard let token = answer.json?["token"]?.stringValue else { throw unexpected("getServiceAuth", answer) }
        return token
    }

    private func get(_ path: String, method: String, as person: DemoWorld.Person) async throws -> DemoWorld.Answer {
        try await world.get(
            "\(world.url)/xrpc/\(method)?\(path)", headers: ["Authorization": "Bearer \(try await token(of: person, for: method))"])
    }

    private mutating func write(_ text: String, in boundary: String, title: String) async throws -> (key: String, cid: String) {
        transcript.step(title)
        let method = "com.atproto.repo.createRecord"
        let input: Value = [
            "repo": .string(alice.did.description), "collection": .string(collection),
            "record": [
                "$type": .string(collection), "text": .string(text), "createdAt": "2026-01-01T00:00:00.000Z",
                "boundary": ["values": [["value": .string("\(service)/\(boundary)")]]],
            ],
        ]
        transcript.request("POST", "\(world.url)/xrpc/\(method)", as: "as Alice, with a token of her own server", body: input)
        let answer = try await world.post(
            "\(world.url)/xrpc/\(method)", input, headers: ["Authorization": "Bearer \(try await token(of: alice, for: method))"])
        guard answer.status == 200, let body = answer.json, let uri = body["uri"]?.stringValue, let cid = body["cid"]?.stringValue,
            let key = uri.split(separator: "/").last
        else { throw unexpected(method, answer) }
        transcript.answer(200, body)
        return (String(key), cid)
    }

    private mutating func read(_ record: (key: String, cid: String), as person: DemoWorld.Person, title: String) async throws {
        transcript.step(title)
        let (query, method) = (place(of: record.key), "com.atproto.repo.getRecord")
        transcript.request("GET", "\(world.url)/xrpc/\(method)?\(query)", as: "as \(person.name.capitalized)")
        let answer = try await get(query, method: method, as: person)
        guard answer.status == 200, let body = answer.json, body["cid"]?.stringValue == record.cid else { throw unexpected(method, answer) }
        transcript.answer(200, body)
    }

    private mutating func refuse(_ record: (key: String, cid: String)) async throws {
        transcript.step("Bob is not in 'writers': to him that post does not exist, as one that was never written")
        let method = "com.atproto.repo.getRecord"
        var answers: [Value] = []
        for key in [record.key, "3aaaaaaaaaaaa"] {
            transcript.request("GET", "\(world.url)/xrpc/\(method)?\(place(of: key))", as: "as Bob")
            let answer = try await get(place(of: key), method: method, as: bob)
            guard answer.status == 400, let body = answer.json else { throw unexpected(method, answer) }
            transcript.answer(400, body)
            answers.append(body)
        }
        guard answers[0] == answers[1] else { throw DemoWorld.unexpected(method, "a refused record does not look like an absent one") }
    }

    private func place(of key: String) -> String { "repo=\(alice.did)&collection=\(collection)&rkey=\(key)" }

    // MARK: What others see

    private mutating func showStub(of record: (key: String, cid: String)) async throws {
        transcript.step("What the public sees on Alice's server: that there is something, where, and nothing of what it says")
        let method = "com.atproto.repo.getRecord"
        let url = "\(world.pdsURL)/xrpc/\(method)?\(place(of: record.key))"
        transcript.request("GET", url, as: "as anybody")
        // It is put there after the answer to Alice, as soon as her server takes it.
        for _ in 0..<200 {
            let answer = try await world.get(url)
            if answer.status == 200, let body = answer.json { return transcript.answer(200, body) }
            try await Task.sleep(for: .milliseconds(50))
        }
        throw DemoWorld.unexpected(url, "no stub within 10 s")
    }

    private mutating func prove(_ record: (key: String, cid: String)) async throws {
        transcript.step(
            "The proof: the record, and the path through Alice's tree to the commit; checked by the key that her own server names")
        let key = try await signingKey(of: alice)
        let method = "com.atproto.sync.getRecord"
        let query = "did=\(alice.did)&collection=\(collection)&rkey=\(record.key)"
        transcript.request("GET", "\(world.url)/xrpc/\(method)?\(query)", as: "as Alice")
        let answer = try await get(query, method: method, as: alice)
        guard answer.status == 200 else { throw unexpected(method, answer) }
        transcript.answer(200, "\(answer.contentType ?? ""), \(answer.bytes.count) bytes")
        let place = try RecordProof.verify(
            answer.bytes, account: alice.did, collection: try NSID(collection), recordKey: try RecordKey(record.key), key: .user(key))
        guard case .record(let proven) = place, proven.cid.description == record.cid else { throw unexpected(method, answer) }
        transcript.show([
            "proven": .string(proven.level.rawValue), "cid": .string(proven.cid.description),
            "commit": .string(proven.commit.cid.description),
        ])
    }

    /// From the record that says, on the person's own server, that the person is a member here.
    private func signingKey(of person: DemoWorld.Person) async throws -> PublicKey {
        let record = try RecordKey(ofEnrollmentAt: try DID(service))
        let url =
            "\(world.pdsURL)/xrpc/com.atproto.repo.getRecord?repo=\(person.did)&collection=zone.stratos.actor.enrollment&rkey=\(record)"
        transcript.request("GET", url, as: "as anybody")
        let answer = try await world.get(url)
        guard answer.status == 200, let body = answer.json, let text = body["value"]?["signingKey"]?.stringValue else {
            throw unexpected(url, answer)
        }
        transcript.answer(200, body)
        return try PublicKey(didKey: text)
    }

    private mutating func rebuild() async throws {
        transcript.step("Everything but the log is thrown away, and computed again: the same to the last byte")
        let before = try await digest()
        transcript.command("stratos projections drop --data-dir \(world.directory)")
        for value in try await world.operate(.dropProjections) { transcript.show(value) }
        transcript.command("stratos rebuild --data-dir \(world.directory)")
        for value in try await world.operate(.rebuild(actor: nil)) { transcript.show(value) }
        guard try await digest() == before else { throw DemoWorld.unexpected("rebuild", "another digest") }
        transcript.command("stratos verify --data-dir \(world.directory)")
        for value in try await world.operate(.verify(actor: nil, signatures: true)) { transcript.show(value) }
    }

    private func digest() async throws -> String {
        transcript.command("stratos digest --data-dir \(world.directory)")
        guard let value = try await world.operate(.digest(actor: nil, until: nil)).first, let digest = value["digest"]?.stringValue else {
            throw DemoWorld.unexpected("digest")
        }
        transcript.show(["digest": .string(digest)])
        return digest
    }

    // MARK: What next

    private mutating func invite() throws {
        transcript.step("It stays up. Try these lines; they stand in \(world.directory)/try.sh too")
        let lines = DemoLines(
            url: world.url, service: service, directory: world.directory, writer: alice.did, reader: bob.did,
            program: CommandLine.arguments[0]
        ).text
        transcript.verbatim(lines)
        transcript.verbatim("# in a browser: join as Bob, whose password is 'password'")
        transcript.verbatim("# \(world.url)/oauth/authorize?handle=\(bob.did)")
        let file = try ResultPrinter(json: true, path: world.directory + "/try.sh")
        try file.take(.bytes(Array((lines + "\n").utf8)))
        try file.finish()
        transcript.verbatim("\nCtrl-C ends it")
    }

    private func unexpected(_ what: String, _ answer: DemoWorld.Answer) -> Problem {
        DemoWorld.unexpected(what, "\(answer.status) \(String(decoding: answer.bytes.prefix(400), as: UTF8.self))")
    }
}
