import ATProto
import HTTPTypes

/// One request, but for who sends it.
struct Probe: Sendable {
    let name: String
    var verb = HTTPRequest.Method.get
    /// The NSID, or the path of a plain route.
    var method: String
    var target: String
    var headers: HTTPFields = [:]
    var type: String?
    var body: [UInt8]?
    /// Whether the answer would hold the record, for whoever may see it.
    var shows = false
    /// What is told to whoever is let in and may not see the record; nil where only equality counts.
    var expected: ExpectedAnswer?
    /// Whether what it asks for is named by collection and key alone, so that any key where nothing is must give the same answer.
    var namesOnePlace = false
}

/// Where a probe looks, and who sends it.
struct MatrixPlace: Sendable {
    let caller: MatrixCaller
    var owner = LeakWorld.owner
    var key = LeakWorld.key
    /// Of the secret.
    let cid: String
    var ownersRepoIsEmpty = false

    var uri: String { "at://\(owner)/\(LeakWorld.collection)/\(key)" }
    var hiddenURI: String { "at://\(owner)/\(LeakWorld.hiddenCollection)/\(key)" }

    /// The account of a caller who has one; whoever has none tries the member's. Nil for the owner: what the owner writes would be in
    /// the answers that follow.
    var own: String? {
        switch caller {
        case .owner: nil
        case .outsider: Service.mallory
        default: Service.bob
        }
    }
    /// An account that is not the caller's.
    var foreign: String { caller == .owner ? Service.bob : LeakWorld.owner }
    /// A boundary that the caller may write to.
    var boundary: String { caller == .outsider ? "others" : "general" }
}

/// A route with what may be learned from it, and how one would try to learn more.
struct MatrixRow: Sendable {
    let route: String
    let opening: Opening
    let rule: LeakRule
    /// The verb that is not the route's own.
    private let wrongVerb: HTTPRequest.Method
    private let base: @Sendable (MatrixPlace) -> [Probe]

    /// Whether asking changes the caller's own account.
    var changesCaller: Bool { if case .ownWrite = rule { true } else { false } }

    /// What every route is tried with beside its own probes: headers and verbs that make other servers tell two absences apart.
    func probes(_ place: MatrixPlace) -> [Probe] {
        let own = base(place)
        // What says nothing of records has nothing to give away.
        guard let first = own.first, !rule.isBlind else { return own }
        func varied(_ name: String, _ change: (inout Probe) -> Void) -> Probe {
            var probe = first
            change(&probe)
            return Probe(
                name: "\(first.name), \(name)", verb: probe.verb, method: probe.method, target: probe.target, headers: probe.headers,
                type: probe.type, body: probe.body)
        }
        var bare = varied("nothing given") { $0.target = "/xrpc/\($0.method)" }
        bare.body = nil
        bare.type = nil
        return own
            + [
                varied("the other verb") { $0.verb = wrongVerb }, bare,
                varied("OPTIONS") { $0.verb = .options },
                varied("a preflight") {
                    $0.verb = .options
                    $0.headers[.origin] = "https://app.example"
                    $0.headers[.accessControlRequestMethod] = "GET"
                    $0.headers[.accessControlRequestHeaders] = "authorization,dpop"
                },
                varied("the record's CID as its tag") { $0.headers[.ifNoneMatch] = "\"\(place.cid)\"" },
                varied("any tag, a range, an origin") {
                    $0.headers[.ifNoneMatch] = "*"
                    $0.headers[.ifModifiedSince] = "Thu, 01 Jan 2026 00:00:00 GMT"
                    $0.headers[.range] = "bytes=0-9"
                    $0.headers[.origin] = "https://app.example"
                    $0.headers[.acceptEncoding] = "gzip"
                },
                first.verb == .get
                    ? varied("HEAD") { $0.verb = .head }
                    : varied("the owner's idempotency key") { $0.headers[.init("Idempotency-Key")!] = LeakWorld.idempotencyKey },
            ]
    }

    private init(
        _ route: String, _ opening: Opening, _ rule: LeakRule, wrongVerb: HTTPRequest.Method,
        _ base: @escaping @Sendable (MatrixPlace) -> [Probe]
    ) {
        self.route = route
        self.opening = opening
        self.rule = rule
        self.wrongVerb = wrongVerb
        self.base = base
    }

    /// A query, tried with lists of parameters.
    /// - Parameter absent: what it answers of what is not there, to its first list of parameters.
    private static func query(
        _ route: String, _ rule: LeakRule, absent: ExpectedAnswer, opening: Opening = .everybody, namesOnePlace: Bool = false,
        _ parameters: @escaping @Sendable (MatrixPlace) -> [[(String, String)]]
    ) -> MatrixRow {
        MatrixRow(route, opening, rule, wrongVerb: .post) { place in
            parameters(place).enumerated().map { index, list in
                Probe(
                    name: "\(route) \(list.map { "\($0.0)=\($0.1)" }.joined(separator: "&"))", method: route,
                    target: Service.target(route, list), shows: index == 0, expected: index == 0 ? absent : nil,
                    namesOnePlace: namesOnePlace)
            }
        }
    }

    /// A procedure, tried with inputs.
    private static func procedure(
        _ route: String, _ rule: LeakRule, absent: ExpectedAnswer, opening: Opening, _ inputs: @escaping @Sendable (MatrixPlace) -> [Value]
    ) -> MatrixRow {
        MatrixRow(route, opening, rule, wrongVerb: .get) { place in
            inputs(place).enumerated().map { index, input in
                let body = DataModelJSON.encode(input)
                return Probe(
                    name: "\(route) \(String(decoding: body, as: UTF8.self))", verb: .post, method: route, target: "/xrpc/\(route)",
                    headers: [.init("Idempotency-Key")!: CID(hashing: Array("\(route)/\(place.caller)/\(index)".utf8)).description],
                    type: "application/json", body: body,
                    shows: index == 0, expected: index == 0 ? absent : nil)
            }
        }
    }

    private static func plain(_ path: String, expected: ExpectedAnswer = ExpectedAnswer(200)) -> [MatrixRow] {
        [HTTPRequest.Method.get, .head].map { verb in
            MatrixRow("\(verb) \(path)", .anybody, .blind, wrongVerb: .post) { _ in
                [Probe(name: "\(verb) \(path)", verb: verb, method: path, target: path, expected: expected)]
            }
        }
    }
}

// The rows, one for each route.
extension MatrixRow {
    static let all: [MatrixRow] =
        reads + repos + accounts + writes + administration + plain("/") + plain("/robots.txt") + plain("/health") + plain("/ready")
        + plain("/.well-known/did.json")
        + [
            // What a stream itself tells is another matrix: `StreamLeakTests`.
            query("zone.stratos.sync.subscribeRecords", .blind, absent: ExpectedAnswer(426, "UpgradeRequired")) {
                [[("did", $0.owner)], []]
            },
            MatrixRow("OPTIONS /**", .anybody, .blind, wrongVerb: .patch) { place in
                ["/xrpc/com.atproto.repo.getRecord", "/nowhere", "/"].map { path in
                    Probe(name: "OPTIONS \(path)", verb: .options, method: path, target: path, expected: ExpectedAnswer(204))
                }
            },
        ] + leaving

    private static let notFound = ExpectedAnswer(400, "RecordNotFound")
    private static let noRepo = ExpectedAnswer(400, "RepoNotFound")
    private static let given = ExpectedAnswer(200)
    /// A CID that nothing here has.
    private static let otherCID = CID(hashing: [1]).description

    private static let reads: [MatrixRow] = [
        query("com.atproto.repo.getRecord", .record, absent: notFound, namesOnePlace: true) { place in
            let here = [("repo", place.owner), ("collection", LeakWorld.collection), ("rkey", place.key)]
            return [
                here, here + [("cid", place.cid)], here + [("cid", otherCID)], here + [("cid", "no cid")], here + [("validate", "false")],
                here + [("rkey", place.key)], [("repo", place.owner), ("collection", LeakWorld.hiddenCollection), ("rkey", place.key)],
            ]
        },
        query("com.atproto.repo.listRecords", .record, absent: given) { place in
            let list = [("repo", place.owner), ("collection", LeakWorld.collection)]
            let hidden = [("repo", place.owner), ("collection", LeakWorld.hiddenCollection)]
            let (before, after) = (LeakWorld.neighbours[0], LeakWorld.neighbours[1])
            return [list] + ["1", "2", "3", "100", "0", "101"].map { list + [("limit", $0)] }
                + [before, place.key, after, LeakWorld.emptyKey, "no key!"].flatMap { cursor in
                    [list + [("limit", "1"), ("cursor", cursor)], list + [("limit", "1"), ("cursor", cursor), ("reverse", "true")]]
                } + [
                    list + [("rkeyStart", before), ("rkeyEnd", after)], list + [("reverse", "true"), ("limit", "2")], hidden,
                    hidden + [("limit", "1")], hidden + [("cursor", place.key)], hidden + [("cursor", after), ("limit", "1")],
                ]
        },
        query("com.atproto.sync.getRecord", .proof, absent: notFound, namesOnePlace: true) { place in
            let here = [("did", place.owner), ("collection", LeakWorld.collection), ("rkey", place.key)]
            return [
                here, here + [("commit", place.cid)],
                [("did", place.owner), ("collection", LeakWorld.hiddenCollection), ("rkey", place.key)],
            ]
        },
        query("zone.stratos.repo.hydrateRecord", .record, absent: notFound, namesOnePlace: true) { place in
            [
                [("uri", place.uri)], [("uri", place.uri), ("cid", place.cid)], [("uri", place.uri), ("cid", otherCID)],
                [("uri", place.hiddenURI)],
            ]
        },
        procedure("zone.stratos.repo.hydrateRecords", .record, absent: given, opening: .everybody) { place in
            let open = "at://\(LeakWorld.owner)/\(LeakWorld.collection)/\(LeakWorld.neighbours[0])"
            let empty = "at://\(LeakWorld.owner)/\(LeakWorld.collection)/\(LeakWorld.emptyKey)"
            return [
                [place.uri], [place.uri, place.uri], [open, place.uri, empty, place.hiddenURI, open], [empty, place.uri],
                [place.uri, "at://\(LeakWorld.nobody)/\(LeakWorld.collection)/\(place.key)"], [place.uri, "no uri"],
            ].map { ["uris": .array($0.map(Value.string))] }
        },
    ]

    private static let repos: [MatrixRow] =
        ["com.atproto.sync.getRepo", "zone.stratos.sync.getRepo"].map { route in
            query(route, .repo, absent: noRepo) { place in
                [[("did", place.owner)], [("did", place.owner), ("since", "2222222222222")], [("did", place.owner), ("since", "never")]]
            }
        } + [
            query("com.atproto.sync.getLatestCommit", .repo, absent: noRepo) { [[("did", $0.owner)]] },
            query("com.atproto.repo.describeRepo", .account, absent: noRepo) { [[("repo", $0.owner)]] },
        ]

    private static let accounts: [MatrixRow] = [
        query("zone.stratos.enrollment.status", .blind, absent: given) { place in
            [[("did", place.owner)], [("did", Service.bob)], [("did", LeakWorld.nobody)]]
        },
        query("zone.stratos.identity.resolveEnrollments", .blind, absent: given) { place in
            [[("did", place.owner)], [("did", Service.bob)], [("did", LeakWorld.nobody)]]
        },
        query("zone.stratos.server.listDomains", .blind, absent: given) { _ in [[]] },
        query("zone.stratos.audit.listReads", .blind, absent: given, opening: .members) { _ in [[], [("limit", "0")], [("cursor", "x")]] },
    ]

    private static let writes: [MatrixRow] = [
        // First, while the callers' own repos are empty.
        MatrixRow("zone.stratos.repo.importRepo", .members, .ownWrite, wrongVerb: .get) { place in
            [
                Probe(
                    name: "an import of no repo", verb: .post, method: "zone.stratos.repo.importRepo",
                    target: "/xrpc/zone.stratos.repo.importRepo", type: "application/vnd.ipld.car", body: [1, 2, 3],
                    expected: ExpectedAnswer(400, place.caller == .owner && !place.ownersRepoIsEmpty ? "RepoAlreadyExists" : "InvalidCar"))
            ]
        },
        procedure("com.atproto.repo.createRecord", .ownWrite, absent: foreignRepo, opening: .members) { place in
            writes(place, [:], ["swapCommit": .string(place.cid)])
        },
        procedure("com.atproto.repo.putRecord", .ownWrite, absent: foreignRepo, opening: .members) { place in
            writes(place, ["rkey": .string(place.key)], ["rkey": .string(LeakWorld.emptyKey), "swapRecord": .string(place.cid)])
        },
        procedure("com.atproto.repo.deleteRecord", .ownWrite, absent: foreignRepo, opening: .members) { place in
            [place.foreign, place.own].compactMap(\.self).map { repo in
                [
                    "repo": .string(repo), "collection": .string(LeakWorld.collection), "rkey": .string(place.key),
                    "swapRecord": .string(place.cid),
                ]
            }
        },
        procedure("com.atproto.repo.applyWrites", .ownWrite, absent: foreignRepo, opening: .members) { place in
            [place.foreign, place.own].compactMap(\.self).map { repo in
                [
                    "repo": .string(repo),
                    "writes": [
                        [
                            "$type": "com.atproto.repo.applyWrites#create", "collection": .string(Service.post),
                            "value": reply(place),
                        ]
                    ],
                ]
            }
        },
    ]
    private static let foreignRepo = ExpectedAnswer(401, "AuthenticationRequired")

    /// A post in answer to the secret.
    private static func reply(_ place: MatrixPlace) -> Value {
        guard case .map(var post) = Service.postRecord("a reply", in: place.boundary) else { return .null }
        let parent: Value = ["uri": .string(place.uri), "cid": .string(place.cid)]
        post["reply"] = ["root": parent, "parent": parent]
        return .map(post)
    }

    /// To another's repo; then to the caller's own, each time with one of these.
    private static func writes(_ place: MatrixPlace, _ more: ValueMap...) -> [Value] {
        func write(to repo: String, _ more: ValueMap) -> Value {
            var input: ValueMap = ["repo": .string(repo), "collection": .string(Service.post), "record": reply(place)]
            for (name, value) in more { input[name] = value }
            return .map(input)
        }
        return [write(to: place.foreign, more[0])] + (place.own.map { own in more.map { write(to: own, $0) } } ?? [])
    }

    private static let administration: [MatrixRow] = [
        procedure("zone.stratos.admin.getRecord", .receipt, absent: notFound, opening: .administrators) { place in
            [["uri": .string(place.uri), "reason": "asked for"], ["uri": .string(place.uri), "reason": ""]]
        },
        procedure("zone.stratos.admin.enroll", .blind, absent: given, opening: .administrators) { _ in
            [["did": "did:web:new.example", "boundaries": []], ["did": .string(LeakWorld.owner)]]
        },
        procedure("zone.stratos.admin.addBoundary", .blind, absent: given, opening: .administrators) { _ in boundary },
        procedure("zone.stratos.admin.removeBoundary", .blind, absent: given, opening: .administrators) { _ in boundary },
        procedure("zone.stratos.admin.setBoundaries", .blind, absent: given, opening: .administrators) { _ in
            [["did": .string(LeakWorld.subject), "boundaries": .array([Service.boundary("general")])]]
        },
        query("zone.stratos.admin.listEnrollments", .blind, absent: given, opening: .administrators) { _ in
            [[], [("limit", "1")], [("cursor", LeakWorld.owner)]]
        },
    ]
    /// Last, since whoever asks is gone then, and nothing else of that caller's can be tried. The owner is asked about by those who come
    /// later, and only tries.
    private static let leaving: [MatrixRow] = [
        procedure("zone.stratos.admin.unenroll", .blind, absent: given, opening: .administrators) { _ in
            [["did": "did:web:new.example"], ["did": .string(LeakWorld.nobody), "keepContent": true, "reason": "asked for"]]
        },
        MatrixRow("zone.stratos.enrollment.unenroll", .members, .blind, wrongVerb: .get) { place in
            let route = "zone.stratos.enrollment.unenroll"
            let isTried = place.caller == .owner
            return [
                Probe(
                    name: route, verb: .post, method: route, target: "/xrpc/\(route)", type: isTried ? "text/plain" : "application/json",
                    body: Array("{}".utf8), expected: isTried ? ExpectedAnswer(400, "InvalidRequest") : given)
            ]
        },
    ]

    private static let boundary: [Value] = [LeakWorld.subject, LeakWorld.nobody].map { did in
        ["did": .string(did), "boundary": Service.boundary("writers")]
    }
}
