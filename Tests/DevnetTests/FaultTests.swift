import ATProto
import Devnet
import Testing

@Suite("Faults of the devnet")
struct FaultTests {
    /// Where each part answers something, if only a refusal, when there is no fault.
    private func address(of part: DevnetPart, _ devnet: Devnet, did: DID) -> String {
        switch part {
        case .plc: "\(devnet.plcURL)/\(did)"
        case .handles: "\(devnet.pdsURL)/.well-known/atproto-did"
        case .protectedResource: "\(devnet.pdsURL)/.well-known/oauth-protected-resource"
        case .authorizationServer: "\(devnet.pdsURL)/.well-known/oauth-authorization-server"
        case .jwks: "\(devnet.pdsURL)/oauth/jwks"
        case .par, .authorize, .token, .revoke: "\(devnet.pdsURL)/oauth/\(part)"
        case .writes: "\(devnet.pdsURL)/xrpc/com.atproto.repo.putRecord"
        case .xrpc: "\(devnet.pdsURL)/xrpc/com.atproto.server.describeServer"
        }
    }

    @Test("a fault touches its part alone, and ends", arguments: DevnetPart.allCases)
    func oneAtATime(part: DevnetPart) async throws {
        try await Devnet.run { devnet in
            let did = try devnet.createAccount(handle: "alice.test").did
            func ask(_ part: DevnetPart) async throws -> HTTPCall.Answer {
                let url = address(of: part, devnet, did: did)
                if [.par, .token, .revoke, .writes].contains(part) { return try await HTTPCall.post(url, form: []) }
                return try await HTTPCall.get(url, host: part == .handles ? "alice.test" : nil)
            }
            var sound: [DevnetPart: HTTPCall.Answer] = [:]
            for part in DevnetPart.allCases {
                sound[part] = try await ask(part)
            }
            for part in [DevnetPart.plc, .handles, .protectedResource, .authorizationServer, .jwks, .xrpc] {
                #expect(sound[part]?.status == 200, "\(part)")
            }
            devnet.setFault(.error(503), on: part)
            for other in DevnetPart.allCases {
                #expect(try await ask(other).status == (other == part ? 503 : sound[other]?.status), "\(other)")
            }
            devnet.setFault(.wrongContentType, on: part)
            for other in DevnetPart.allCases {
                let answer = try await ask(other)
                #expect((answer.contentType != sound[other]?.contentType) == (other == part && part != .authorize), "\(other)")
                #expect(answer.bytes == sound[other]?.bytes, "\(other)")
            }
            let clock = ContinuousClock()
            devnet.setFault(.slow(.milliseconds(50)), on: part)
            let start = clock.now
            #expect(try await ask(part).bytes == sound[part]?.bytes)
            #expect(clock.now - start >= .milliseconds(50))
            devnet.clearFaults()
            let answer = try await ask(part)
            #expect(answer.status == sound[part]?.status && answer.contentType == sound[part]?.contentType)
        }
    }

    @Test("the wrong issuer stands in both OAuth documents, and the rest of them stays")
    func wrongIssuer() async throws {
        try await Devnet.run { devnet in
            for (part, name) in [(DevnetPart.protectedResource, "authorization_servers"), (.authorizationServer, "issuer")] {
                let url = address(of: part, devnet, did: try DID("did:plc:nobody"))
                var sound = try #require(try await HTTPCall.get(url).json.mapValue)
                devnet.setFault(.wrongIssuer, on: part)
                var wrong = try #require(try await HTTPCall.get(url).json.mapValue)
                #expect(sound.remove(name) != wrong.remove(name))
                #expect(sound == wrong)
            }
        }
    }

    @Test("faults are set and ended over HTTP too, by their names")
    func overHTTP() async throws {
        try await Devnet.run { devnet in
            let url = devnet.pdsURL + "/devnet/fault"
            let jwks = devnet.pdsURL + "/oauth/jwks"
            let set = try await HTTPCall.post(url, ["part": "jwks", "name": "error", "status": 500])
            #expect(set.status == 200)
            #expect(try await HTTPCall.get(jwks).status == 500)
            #expect(try await HTTPCall.post(url, ["part": "jwks"]).status == 200)
            #expect(try await HTTPCall.get(jwks).status == 200)
            for name in ["slow", "wrongContentType", "wrongIssuer"] {
                #expect(try await HTTPCall.post(url, ["part": "plc", "name": .string(name), "milliseconds": 1]).status == 200)
            }
            #expect(try await HTTPCall.post(url, ["part": "plc", "name": "kind"]).status == 400)
            #expect(try await HTTPCall.post(url, ["part": "everything", "name": "slow"]).status == 400)
            #expect(try await HTTPCall.post(devnet.pdsURL + "/devnet/faults/clear", [:]).status == 200)
        }
    }

    @Test("a devnet that is stopped while it is slow stops at once")
    func stopsWhileSlow() async throws {
        let devnet = try await Devnet.start()
        devnet.setFault(.slow(.seconds(600)), on: .jwks)
        let url = devnet.pdsURL + "/oauth/jwks"
        let clock = ContinuousClock()
        let start = clock.now
        async let waiting = Result { try await HTTPCall.get(url) }
        try await Task.sleep(for: .milliseconds(50))
        await devnet.stop()
        _ = await waiting
        #expect(clock.now - start < .seconds(60))
    }
}

extension Result where Failure == any Error {
    fileprivate init(_ body: () async throws -> Success) async {
        do { self = .success(try await body()) } catch { self = .failure(error) }
    }
}
