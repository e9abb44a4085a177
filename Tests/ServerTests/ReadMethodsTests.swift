import ATProto
import Commands
import HTTPTypes
import Simulation
import Testing

@Suite("HTTP: getRecord, listRecords, describeRepo")
struct ReadMethodsTests {
    private func get(_ service: Service, _ rkey: String, as caller: String?, _ more: [(String, String)] = []) async throws -> Answer {
        try await service.get(
            "com.atproto.repo.getRecord", [("repo", Service.alice), ("collection", Service.post), ("rkey", rkey)] + more, as: caller)
    }

    @Test("a record is read by its owner and by those who share a boundary with it now, and by nobody else (I12)")
    func whoReads() async throws {
        let service = try await Service()
        let written = try await service.write(Service.postRecord("general", in: "general"), at: "3lq2222222222")
        try await service.write(Service.postRecord("writers", in: "writers"), at: "3lq2222222223")
        try await service.write(["size": 1], at: "mine", collection: Service.thing)
        for caller in [Service.alice, Service.bob] {
            let read = try await get(service, "3lq2222222222", as: caller)
            #expect(read.status == 200)
            #expect(read["uri"] == written["uri"])
            #expect(read["cid"] == written["cid"])
            #expect(read["value"]?["text"]?.stringValue == "general")
        }
        #expect(try await get(service, "3lq2222222223", as: Service.alice).status == 200)
        for (rkey, caller) in [
            ("3lq2222222222", Service.mallory), ("3lq2222222222", nil), ("3lq2222222223", Service.bob), ("3lq2222222223", nil),
        ] as [(String, String?)] {
            expect(try await get(service, rkey, as: caller), 400, "RecordNotFound", "Record not found")
        }
        let thing = [("repo", Service.alice), ("collection", Service.thing), ("rkey", "mine")]
        #expect(try await service.get("com.atproto.repo.getRecord", thing, as: Service.alice).status == 200)
        expect(try await service.get("com.atproto.repo.getRecord", thing, as: Service.bob), 400, "RecordNotFound")
        expect(try await service.get("com.atproto.repo.getRecord", thing), 400, "RecordNotFound")
    }

    @Test("`cid` must be that of the record as it stands")
    func version() async throws {
        let service = try await Service()
        let written = try await service.write(Service.postRecord("one", in: "general"), at: "3lq2222222222")
        let cid = try #require(written["cid"]?.stringValue)
        #expect(try await get(service, "3lq2222222222", as: Service.bob, [("cid", cid)]).status == 200)
        let other = CID(hashing: [0x60]).description
        expect(try await get(service, "3lq2222222222", as: Service.bob, [("cid", other)]), 400, "RecordNotFound")
        expect(try await get(service, "3lq2222222222", as: Service.bob, [("cid", "x")]), 400, "InvalidRequest")
    }

    @Test("pages hold what the viewer may read: none short, none with a cursor that betrays what is hidden (I12)")
    func pages() async throws {
        let service = try await Service()
        // Newest first, Bob sees every third: 20 of 60.
        for number in 0..<60 {
            let key = TID(microseconds: 1_700_000_000_000_000 + Int64(number), clockID: 0).description
            try await service.write(Service.postRecord("\(number)", in: number % 3 == 0 ? "general" : "writers"), at: key)
        }
        for (caller, expected) in [
            (Service.alice, (0..<60).map { "\($0)" }), (Service.bob, stride(from: 0, to: 60, by: 3).map { "\($0)" }),
            (Service.mallory, []),
        ] {
            for (reverse, order) in [("true", expected), ("false", expected.reversed())] {
                for limit in [1, 7, 20, 60, 100] {
                    var seen: [String] = []
                    var cursor: String?
                    repeat {
                        var parameters = [
                            ("repo", Service.alice), ("collection", Service.post), ("limit", "\(limit)"), ("reverse", reverse),
                        ]
                        if let cursor { parameters.append(("cursor", cursor)) }
                        let page = try await service.get("com.atproto.repo.listRecords", parameters, as: caller)
                        let records = try #require(page["records"]?.arrayValue)
                        seen += records.compactMap { $0["value"]?["text"]?.stringValue }
                        cursor = page["cursor"]?.stringValue
                        if cursor != nil { #expect(records.count == limit, "a page with more behind it is full") }
                        #expect(seen.count <= expected.count)
                    } while cursor != nil && seen.count <= expected.count
                    #expect(seen == order, "\(caller), limit \(limit), reverse \(reverse)")
                }
            }
        }
    }

    @Test("a list has 50 records by default, newest first, and takes 1 to 100")
    func listParameters() async throws {
        let service = try await Service()
        for number in 0..<51 { try await service.write(Service.postRecord("\(number)", in: "general")) }
        func list(_ more: [(String, String)]) async throws -> Answer {
            try await service.get(
                "com.atproto.repo.listRecords", [("repo", Service.alice), ("collection", Service.post)] + more, as: Service.alice)
        }
        let first = try await list([])
        #expect(first["records"]?.arrayValue?.count == 50)
        #expect(first["records"]?.arrayValue?.first?["value"]?["text"]?.stringValue == "50")
        #expect(try await list([("limit", "100")])["records"]?.arrayValue?.count == 51)
        for bad in [
            ("limit", "0"), ("limit", "101"), ("limit", "ten"), ("limit", ""), ("reverse", "1"), ("reverse", "TRUE"), ("cursor", "a/b"),
        ] {
            expect(try await list([bad]), 400, "InvalidRequest")
        }
        expect(try await list([("limit", "1"), ("limit", "2")]), 400, "InvalidRequest")
        expect(try await service.get("com.atproto.repo.listRecords", [("repo", Service.alice)]), 400, "InvalidRequest")
        #expect(try await list([("unknown", "parameter")]).status == 200)
    }

    @Test("a page of large records ends before it is too large, and goes on at its cursor")
    func largePages() async throws {
        let service = try await Service()
        let filling = String(repeating: "x", count: 900_000)
        for number in 0..<7 {
            try await service.write(["text": .string("\(number)\(filling)")], at: "key\(number)", collection: Service.thing)
        }
        var seen: [String] = []
        var cursor: String?
        var pages = 0
        repeat {
            let page = try await service.get(
                "com.atproto.repo.listRecords",
                [("repo", Service.alice), ("collection", Service.thing), ("reverse", "true")] + (cursor.map { [("cursor", $0)] } ?? []),
                as: Service.alice)
            #expect(page.body.count < 5 << 20)
            seen += (page["records"]?.arrayValue ?? []).compactMap { $0["uri"]?.stringValue?.suffix(4).description }
            cursor = page["cursor"]?.stringValue
            pages += 1
        } while cursor != nil && pages < 10
        #expect(seen == (0..<7).map { "key\($0)" })
        #expect(pages == 2)
    }

    @Test("describeRepo is for the owner: the collections that hold records, and where nobody can be asked, the DID as handle and document")
    func describe() async throws {
        let service = try await Service()
        try await service.write(Service.postRecord("one", in: "general"))
        try await service.write(["size": 1], collection: Service.thing)
        let answer = try await service.get("com.atproto.repo.describeRepo", [("repo", Service.alice)], as: Service.alice)
        #expect(
            try answer.json == [
                "handle": .string(Service.alice), "did": .string(Service.alice), "didDoc": ["id": .string(Service.alice)],
                "collections": [.string(Service.post), .string(Service.thing)], "handleIsCorrect": false,
            ])
        for caller in [Service.bob, nil] as [String?] {
            expect(
                try await service.get("com.atproto.repo.describeRepo", [("repo", Service.alice)], as: caller), 400, "RepoNotFound",
                "Could not find repo")
        }
        expect(try await service.get("com.atproto.repo.describeRepo", [("repo", "alice.example")], as: Service.alice), 400, "RepoNotFound")
        expect(try await service.get("com.atproto.repo.describeRepo", as: Service.alice), 400, "InvalidRequest")
    }

    @Test("enrollment.status: open to all but for boundaries and attestation, which the member alone sees")
    func enrollmentStatus() async throws {
        let service = try await Service()
        let enrolled = try #require(try await service.engine.enrollment(of: DID(Service.bob)))
        let open = try await service.get("zone.stratos.enrollment.status", [("did", Service.bob)])
        let expected: ValueMap = [
            "did": .string(Service.bob), "enrolled": true, "active": true,
            "enrolledAt": .string(enrolled.membership.enrolledAt.description), "signingKey": .string(enrolled.signingKey.didKey),
            "enrollmentRkey": .string(Service.did),
        ]
        #expect(try open.json == .map(expected))
        #expect(try await service.get("zone.stratos.enrollment.status", [("did", Service.bob)], as: Service.alice).body == open.body)
        let own = try await service.get("zone.stratos.enrollment.status", [("did", Service.bob)], as: Service.bob)
        #expect(own["boundaries"] == [["value": Service.boundary("general")]])
        #expect(own["attestation"]?["sig"]?.bytesValue?.count == 64)
        #expect(own["attestation"]?["signingKey"]?.stringValue?.hasPrefix("did:key:zQ3sh") == true)
        let nobody = try await service.get("zone.stratos.enrollment.status", [("did", "did:plc:nobody")])
        #expect(try nobody.json == ["did": "did:plc:nobody", "enrolled": false, "active": false])
        expect(try await service.get("zone.stratos.enrollment.status"), 400, "InvalidRequest")
        expect(try await service.get("zone.stratos.enrollment.status", [("did", "bob.example")]), 400, "InvalidRequest")
    }
}
