import ATProto
import Devnet
import Foundation
import HTTPTypes
import Keys
import Testing

@Suite("Accounts of the PDS")
struct AccountTests {
    @Test("an account's document names its handle, its key and the PDS, on either curve", arguments: [Curve.k256, .p256])
    func document(curve: Curve) async throws {
        try await Devnet.run { devnet in
            let user = try devnet.createAccount(handle: "Alice.test", repoKey: .generate(curve))
            let document = try await HTTPCall.get("\(devnet.plcURL)/\(user.did)").json
            #expect(document["id"]?.stringValue == user.did.description)
            #expect(document["alsoKnownAs"] == ["at://alice.test"])
            #expect(
                document["service"] == [
                    ["id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": .string(devnet.pdsURL)]
                ])
            let method = try #require(document["verificationMethod"]?.arrayValue?.first)
            #expect(method["id"]?.stringValue == "\(user.did)#atproto")
            #expect(try PublicKey(multibase: try #require(method["publicKeyMultibase"]?.stringValue)) == user.repoKey.publicKey)
            #expect(user.repoKey.curve == curve)
        }
    }

    @Test("a handle leads to its DID by XRPC and by the Host of a request, in any case; another leads nowhere")
    func handles() async throws {
        try await Devnet.run { devnet in
            let alice = try devnet.createAccount(handle: "alice.test")
            let bob = try devnet.createAccount(handle: "bob.test")
            for (handle, did) in [("alice.test", alice.did), ("ALICE.Test", alice.did), ("bob.test", bob.did)] {
                let resolved = try await HTTPCall.get("\(devnet.pdsURL)/xrpc/com.atproto.identity.resolveHandle?handle=\(handle)")
                #expect(try resolved.json == ["did": .string(did.description)])
                for host in [handle, handle + ":443"] {
                    let answer = try await HTTPCall.get("\(devnet.pdsURL)/.well-known/atproto-did", host: host)
                    #expect(answer.status == 200 && answer.text == did.description && answer.contentType.hasPrefix("text/plain"))
                }
            }
            let unknown = try await HTTPCall.get("\(devnet.pdsURL)/xrpc/com.atproto.identity.resolveHandle?handle=carol.test")
            #expect(unknown.status == 400)
            #expect(try unknown.json == ["error": "InvalidRequest", "message": "Unable to resolve handle"])
            for query in ["", "?handle=", "?handle=alice", "?handle=alice.test&handle=bob.test"] {
                let answer = try await HTTPCall.get("\(devnet.pdsURL)/xrpc/com.atproto.identity.resolveHandle\(query)")
                #expect(answer.status == 400, "\(query)")
            }
            for host in ["carol.test", "localhost"] {
                #expect(try await HTTPCall.get("\(devnet.pdsURL)/.well-known/atproto-did", host: host).status == 404)
            }
        }
    }

    @Test("resolveDid gives the directory's document, and tells an unknown DID from an ended one")
    func resolveDID() async throws {
        try await Devnet.run { devnet in
            let url = "\(devnet.pdsURL)/xrpc/com.atproto.identity.resolveDid?did="
            let did = try devnet.createAccount(handle: "alice.test").did
            let document = try await HTTPCall.get("\(devnet.plcURL)/\(did)").json
            #expect(try await HTTPCall.get(url + did.description).json == ["didDoc": document])
            #expect(try await HTTPCall.get(url + "did:plc:nobody").json["error"] == "DidNotFound")
            try devnet.update(did, to: nil)
            #expect(try await HTTPCall.get(url + did.description).json["error"] == "DidDeactivated")
        }
    }

    @Test("handles are one label before .test, and belong to one account")
    func takenHandles() async throws {
        try await Devnet.run { devnet in
            _ = try devnet.createAccount(handle: "alice.test")
            #expect(throws: DevnetError.handleTaken("alice.test")) { try devnet.createAccount(handle: "ALICE.test") }
            for handle in ["alice.example.com", "a.b.test"] {
                #expect(throws: DevnetError.unsupportedHandle(handle)) { try devnet.createAccount(handle: handle) }
            }
            let url = devnet.pdsURL + "/devnet/account"
            #expect(try await HTTPCall.post(url, ["handle": "alice.test"]).json["error"] == "HandleNotAvailable")
            #expect(try await HTTPCall.post(url, ["handle": "alice.example.com"]).json["error"] == "UnsupportedDomain")
            #expect(try await HTTPCall.post(url, ["handle": "alice"]).status == 400)
            #expect(try await HTTPCall.post(url, ["handle": "bob.test"], contentType: "text/plain").status == 400)
            #expect(try await HTTPCall.get(devnet.pdsURL + "/devnet/accounts").json["accounts"]?.arrayValue?.count == 1)
        }
    }

    @Test("an account that was made over HTTP is one like the library's")
    func overHTTP() async throws {
        try await Devnet.run { devnet in
            let made = try await HTTPCall.post(
                devnet.pdsURL + "/devnet/account", ["handle": "bob.test", "password": "secret", "curve": "p256"])
            let did = try DID(try #require(try made.json["did"]?.stringValue))
            let user = try #require(devnet.user(did))
            #expect(user.handle.description == "bob.test" && user.password == "secret" && user.repoKey.curve == .p256)
            #expect(try made.json["repoKey"]?.stringValue == user.repoKey.publicKey.didKey)
            #expect(try await HTTPCall.get("\(devnet.plcURL)/\(did)").status == 200)
        }
    }

    @Test("a session opens with the handle or the DID and the password, and with nothing else")
    func sessions() async throws {
        try await Devnet.run { devnet in
            let alice = try devnet.createAccount(handle: "alice.test", password: "right")
            _ = try devnet.createAccount(handle: "bob.test", password: "other")
            let url = devnet.pdsURL + "/xrpc/com.atproto.server.createSession"
            for identifier in ["alice.test", "Alice.Test", alice.did.description] {
                let answer = try await HTTPCall.post(url, ["identifier": .string(identifier), "password": "right"])
                #expect(answer.status == 200)
                let session = try answer.json
                #expect(session["did"]?.stringValue == alice.did.description && session["handle"] == "alice.test")
                #expect(session["didDoc"] == (try devnet.directory.document(of: alice.did.description)))
                let access = try ReadJWT(try #require(session["accessJwt"]?.stringValue))
                #expect(access.header == ["alg": "HS256", "typ": "at+jwt"])
                #expect(access.claims["scope"] == "com.atproto.access" && access.claims["aud"]?.stringValue == devnet.pdsDID)
                let refresh = try ReadJWT(try #require(session["refreshJwt"]?.stringValue))
                #expect(refresh.header["typ"] == "refresh+jwt" && refresh.claims["jti"] != nil)
            }
            for (identifier, password) in [
                ("alice.test", "wrong"), ("alice.test", ""), ("alice.test", "other"), ("bob.test", "right"), ("carol.test", "right"),
                ("", "right"), ("alice.test ", "right"),
            ] {
                let answer = try await HTTPCall.post(url, ["identifier": .string(identifier), "password": .string(password)])
                #expect(answer.status == 401, "\(identifier) \(password)")
                #expect(try answer.json == ["error": "AuthenticationRequired", "message": "Invalid identifier or password"])
            }
            #expect(try await HTTPCall.post(url, ["identifier": "alice.test"]).status == 400)
            #expect(try await HTTPCall.post(url, bytes: Array("[]".utf8)).status == 400)
            #expect(try await HTTPCall.get(url).status == 400)
        }
    }

    @Test("an unknown method is not implemented, and a body beyond two megabytes too large")
    func edges() async throws {
        try await Devnet.run { devnet in
            let unknown = try await HTTPCall.get(devnet.pdsURL + "/xrpc/com.example.unknown")
            #expect(unknown.status == 501)
            #expect(try unknown.json["error"] == "MethodNotImplemented")
            let large = [UInt8](repeating: 0x20, count: 2 << 20) + [0x20]
            #expect(try await HTTPCall.post(devnet.pdsURL + "/devnet/account", bytes: large).status == 413)
            #expect(try await HTTPCall.get(devnet.pdsURL + "/nothing").status == 404)
        }
    }

    @Test("a record is read by its owner's DID or handle, listed from the newest key, and page by page")
    func records() async throws {
        try await Devnet.run { devnet in
            let user = try devnet.createAccount(handle: "alice.test")
            let collection = try NSID("com.example.note")
            for key in ["a", "b", "c"] {
                try devnet.setRecord(
                    ["$type": "com.example.note", "text": .string(key)], of: user.did, collection: collection, key: try RecordKey(key))
            }
            let get = "\(devnet.pdsURL)/xrpc/com.atproto.repo.getRecord?collection=com.example.note"
            let value: Value = ["$type": "com.example.note", "text": "b"]
            let cid = CID(hashing: DAGCBOR.encode(value)).description
            let expected: Value = ["uri": .string("at://\(user.did)/com.example.note/b"), "cid": .string(cid), "value": value]
            #expect(try await HTTPCall.get("\(get)&repo=\(user.did)&rkey=b").json == expected)
            #expect(try await HTTPCall.get("\(get)&repo=alice.test&rkey=b&cid=\(cid)").json == expected)
            for query in ["&repo=alice.test&rkey=d", "&repo=alice.test&rkey=a&cid=\(cid)"] {
                let answer = try await HTTPCall.get(get + query)
                #expect(answer.status == 400)
                #expect(try answer.json["error"] == "RecordNotFound")
            }
            for query in ["&repo=bob.test&rkey=a", "&repo=alice.test", "&repo=alice.test&rkey=.."] {
                #expect(try await HTTPCall.get(get + query).json["error"] == "InvalidRequest", "\(query)")
            }
            let list = "\(devnet.pdsURL)/xrpc/com.atproto.repo.listRecords?repo=alice.test&collection=com.example.note"
            func texts(_ query: String) async throws -> [String] {
                let page = try await HTTPCall.get(list + query).json
                return page["records"]?.arrayValue?.compactMap { $0["value"]?["text"]?.stringValue } ?? []
            }
            #expect(try await texts("") == ["c", "b", "a"])
            #expect(try await texts("&reverse=true") == ["a", "b", "c"])
            #expect(try await texts("&limit=2") == ["c", "b"])
            #expect(try await HTTPCall.get(list + "&limit=2").json["cursor"] == "b")
            #expect(try await texts("&limit=2&cursor=b") == ["a"])
            #expect(try await texts("&reverse=true&cursor=b") == ["c"])
            for (limit, status) in [("0", 400), ("1", 200), ("100", 200), ("101", 400), ("x", 400)] {
                #expect(try await HTTPCall.get(list + "&limit=\(limit)").status == status, "\(limit)")
            }
            let set = try await HTTPCall.post(
                devnet.pdsURL + "/devnet/record",
                ["did": .string(user.did.description), "collection": "com.example.note", "rkey": "b", "record": value])
            #expect(try set.json["cid"]?.stringValue == cid)
        }
    }
}
