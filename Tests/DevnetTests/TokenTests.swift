import ATProto
import Crypto
import Devnet
import Keys
import Simulation
import Testing

@Suite("Access tokens and DPoP proofs")
struct TokenTests {
    @Test("an access token leads from its issuer over the metadata to the key that verifies it")
    func discovery() async throws {
        let clock = StoppedClock()
        var configuration = DevnetConfiguration()
        configuration.clock = { clock.milliseconds }
        try await Devnet.run(configuration) { devnet in
            let user = try devnet.createAccount(handle: "alice.test")
            let token = try ReadJWT(try user.accessToken().text)
            #expect(token.header["typ"] == "at+jwt" && token.header["alg"] == "ES256")
            var claims = try #require(token.claims.mapValue)
            #expect(claims.remove("jti")?.stringValue?.hasPrefix("tok-") == true)
            let expected: ValueMap = [
                "iss": .string(devnet.pdsURL), "sub": .string(user.did.description), "aud": .string(devnet.pdsDID),
                "scope": "atproto transition:generic", "client_id": "http://localhost", "iat": .integer(clock.seconds),
                "exp": .integer(clock.seconds + 3600), "cnf": ["jkt": .string(user.clientKey.publicKey.jwk.thumbprint)],
            ]
            #expect(claims == expected)

            let document = try await HTTPCall.get("\(devnet.plcURL)/\(user.did)").json
            let pds = try #require(document["service"]?.arrayValue?.first?["serviceEndpoint"]?.stringValue)
            let resource = try await HTTPCall.get(pds + "/.well-known/oauth-protected-resource").json
            #expect(resource["resource"]?.stringValue == pds && resource["authorization_servers"] == [.string(devnet.pdsURL)])
            let issuer = try #require(resource["authorization_servers"]?.arrayValue?.first?.stringValue)
            #expect(issuer == token.claims["iss"]?.stringValue)
            let metadata = try await HTTPCall.get(issuer + "/.well-known/oauth-authorization-server").json
            #expect(metadata["issuer"]?.stringValue == issuer)
            let jwks = try await HTTPCall.get(try #require(metadata["jwks_uri"]?.stringValue)).json
            let key = try #require(try token.key(in: jwks))
            #expect(token.verifies(with: key))
        }
    }

    @Test("the authorization server's metadata holds all that the AT Protocol's profile demands")
    func profile() async throws {
        try await Devnet.run { devnet in
            let answer = try await HTTPCall.get(devnet.pdsURL + "/.well-known/oauth-authorization-server")
            #expect(answer.status == 200 && answer.contentType.hasPrefix("application/json"))
            let metadata = try answer.json
            func contains(_ name: String, _ value: Value) -> Bool { metadata[name]?.arrayValue?.contains(value) ?? false }
            for name in [
                "require_pushed_authorization_requests", "authorization_response_iss_parameter_supported",
                "client_id_metadata_document_supported", "require_request_uri_registration",
            ] {
                #expect(metadata[name] == true, "\(name)")
            }
            for (name, value) in [
                ("response_types_supported", "code"), ("grant_types_supported", "authorization_code"),
                ("grant_types_supported", "refresh_token"), ("code_challenge_methods_supported", "S256"),
                ("token_endpoint_auth_methods_supported", "none"), ("token_endpoint_auth_methods_supported", "private_key_jwt"),
                ("token_endpoint_auth_signing_alg_values_supported", "ES256"), ("scopes_supported", "atproto"),
                ("dpop_signing_alg_values_supported", "ES256"),
            ] as [(String, Value)] {
                #expect(contains(name, value), "\(name) \(value)")
            }
            #expect(!contains("token_endpoint_auth_signing_alg_values_supported", "none"))
            #expect(!contains("code_challenge_methods_supported", "plain"))
            for name in ["authorization_endpoint", "token_endpoint", "pushed_authorization_request_endpoint", "revocation_endpoint"] {
                #expect(metadata[name]?.stringValue?.hasPrefix(devnet.pdsURL + "/oauth/") == true, "\(name)")
            }
        }
    }

    @Test("describeServer names the DID that tokens are for")
    func describeServer() async throws {
        try await Devnet.run { devnet in
            let answer = try await HTTPCall.get(devnet.pdsURL + "/xrpc/com.atproto.server.describeServer").json
            #expect(answer["did"]?.stringValue == devnet.pdsDID)
            #expect(devnet.pdsDID == "did:web:localhost%3A\(devnet.pdsURL.split(separator: ":")[2])")
            #expect(answer["availableUserDomains"] == [".test"])
        }
    }

    @Test("a symmetric PDS publishes no key, and its tokens verify under none")
    func symmetric() async throws {
        var configuration = DevnetConfiguration()
        configuration.tokens = .hs256
        try await Devnet.run(configuration) { devnet in
            let token = try ReadJWT(try devnet.createAccount(handle: "alice.test").accessToken().text)
            #expect(token.header == ["typ": "at+jwt", "alg": "HS256"] && token.signature.count == 32)
            #expect(try await HTTPCall.get(devnet.pdsURL + "/oauth/jwks").json == ["keys": []])
        }
    }

    @Test("a rotated key signs what is new; the old one stays published, or is forgotten")
    func rotation() async throws {
        try await Devnet.run { devnet in
            let user = try devnet.createAccount(handle: "alice.test")
            let url = devnet.pdsURL + "/oauth/jwks"
            let first = try ReadJWT(try user.accessToken().text)
            try devnet.rotateTokenKeys()
            let second = try ReadJWT(try user.accessToken().text)
            #expect(first.header["kid"] != second.header["kid"])
            var jwks = try await HTTPCall.get(url).json
            #expect(jwks["keys"]?.arrayValue?.count == 2)
            for token in [first, second] { #expect(token.verifies(with: try #require(try token.key(in: jwks)))) }
            let answer = try await HTTPCall.post(devnet.pdsURL + "/devnet/rotate-keys", ["keepOld": false])
            #expect(answer.status == 200)
            jwks = try await HTTPCall.get(url).json
            #expect(jwks["keys"]?.arrayValue?.count == 1)
            for token in [first, second] { #expect(try token.key(in: jwks) == nil) }
            let third = try ReadJWT(try user.accessToken().text)
            #expect(third.verifies(with: try #require(try third.key(in: jwks))))
        }
    }

    @Test("/devnet/token gives a token with any member replaced or taken away, and nobody's for a stranger")
    func tokenEndpoint() async throws {
        try await Devnet.run { devnet in
            let user = try devnet.createAccount(handle: "alice.test")
            let url = devnet.pdsURL + "/devnet/token"
            let plain = try await HTTPCall.post(
                url, ["did": .string(user.did.description), "jkt": "thumb", "scope": "atproto", "lifetime": 5])
            let token = try ReadJWT(try #require(try plain.json["access_token"]?.stringValue))
            #expect(token.claims["cnf"] == ["jkt": "thumb"] && token.claims["scope"] == "atproto")
            #expect(try plain.json["token_type"] == "DPoP" && plain.json["expires_in"] == 5)
            let changed = try await HTTPCall.post(
                url,
                [
                    "did": .string(user.did.description), "jkt": "thumb", "header": ["typ": "JWT", "kid": .null],
                    "claims": ["aud": "did:web:other.test", "cnf": .null],
                ])
            let other = try ReadJWT(try #require(try changed.json["access_token"]?.stringValue))
            #expect(other.header == ["typ": "JWT", "alg": "ES256"])
            #expect(other.claims["aud"] == "did:web:other.test" && other.claims["cnf"] == nil)
            let jwks = try await HTTPCall.get(devnet.pdsURL + "/oauth/jwks").json
            #expect(other.verifies(with: try ReadJWT.key(ofJWK: try #require(jwks["keys"]?.arrayValue?.first))))
            #expect(try await HTTPCall.post(url, ["did": "did:plc:nobody", "jkt": "thumb"]).status == 400)
            #expect(try await HTTPCall.post(url, ["did": .string(user.did.description)]).status == 400)
        }
    }

    @Test("a DPoP proof carries the key that signed it, the request without its query, and the hash of the token")
    func proof() async throws {
        let clock = StoppedClock()
        var configuration = DevnetConfiguration()
        configuration.clock = { clock.milliseconds }
        try await Devnet.run(configuration) { devnet in
            let user = try devnet.createAccount(handle: "alice.test")
            let written = try user.dpopProof(
                method: "POST", url: "https://stratos.test/xrpc/a.b.c?x=1#y", nonce: "n", accessToken: "token", jti: "once")
            let proof = try ReadJWT(try written.text)
            #expect(proof.header["typ"] == "dpop+jwt" && proof.header["alg"] == "ES256")
            let jwk = try #require(proof.header["jwk"])
            #expect(proof.verifies(with: try ReadJWT.key(ofJWK: jwk)) && jwk.mapValue?.count == 4)
            let expected: Value = [
                "jti": "once", "htm": "POST", "htu": "https://stratos.test/xrpc/a.b.c", "iat": .integer(clock.seconds), "nonce": "n",
                "ath": .string(Base64URL.encode(Array(SHA256.hash(data: Array("token".utf8))))),
            ]
            #expect(proof.claims == expected)
            let bare = try user.dpopProof(method: "GET", url: "https://stratos.test/", iat: 7)
            #expect(bare.claims["iat"] == 7 && bare.claims["ath"] == nil && bare.claims["nonce"] == nil)
            let next = try user.dpopProof(method: "GET", url: "https://stratos.test/")
            #expect(bare.claims["jti"] != next.claims["jti"])
        }
    }

    @Test("each part of a token can be changed alone")
    func singleChanges() throws {
        let key = PrivateKey.generate(.p256)
        let valid = DevnetJWT(header: ["alg": "ES256"], claims: ["sub": "a"], signer: .key(key))
        #expect(try ReadJWT(valid.text).verifies(with: key.publicKey))

        var claims = valid
        claims.claims["sub"] = "b"
        #expect(try ReadJWT(claims.text).verifies(with: key.publicKey), "what was changed before signing is signed")

        var algorithm = valid
        algorithm.header["alg"] = "none"
        #expect(try ReadJWT(algorithm.text).header == ["alg": "none"] && ReadJWT(algorithm.text).verifies(with: key.publicKey))

        var signer = valid
        signer.signer = .key(.generate(.p256))
        #expect(try !ReadJWT(signer.text).verifies(with: key.publicKey) && ReadJWT(signer.text).claims == ReadJWT(valid.text).claims)

        var unsigned = valid
        unsigned.signer = .none
        #expect(try unsigned.text == valid.signingInput + ".")

        var signature = valid
        signature.signatureBytes = Array(try valid.signature.reversed())
        #expect(
            try ReadJWT(signature.text).signature == valid.signature.reversed() && !ReadJWT(signature.text).verifies(with: key.publicKey))

        var raw = valid
        raw.claimsBytes = Array("{\"exp\":1.5}".utf8)
        #expect(try raw.text.split(separator: ".")[1] == Base64URL.encode(Array("{\"exp\":1.5}".utf8))[...])

        var secret = valid
        secret.signer = .secret([1, 2, 3])
        let code = HMAC<SHA256>.authenticationCode(for: Array(secret.signingInput.utf8), using: SymmetricKey(data: [1, 2, 3] as [UInt8]))
        #expect(try secret.signature == Array(code))
    }
}
