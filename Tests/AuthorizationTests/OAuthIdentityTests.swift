import ATProto
import Authorization
import Crypto
import Foundation
import Keys
import Testing

@Suite("OAuth: who the service is")
struct OAuthIdentityTests {
    private func identity(_ url: String, id: String? = nil, redirect: String? = nil, secret: PrivateKey? = nil) -> OAuthIdentity {
        OAuthIdentity(publicURL: url, id: id, redirectURI: redirect, secret: secret, presentation: .init())
    }

    @Test("the metadata is the wire contract's")
    func metadata() throws {
        let identity = identity("https://stratos.example.com")
        let text = """
            {"client_id":"https://stratos.example.com/client-metadata.json","client_name":"Stratos Service",\
            "client_uri":"https://stratos.example.com","redirect_uris":["https://stratos.example.com/oauth/callback"],\
            "grant_types":["authorization_code","refresh_token"],"response_types":["code"],\
            "scope":"atproto repo:zone.stratos.actor.enrollment repo:zone.stratos.feed.post","token_endpoint_auth_method":"none",\
            "dpop_bound_access_tokens":true,"application_type":"web"}
            """
        #expect(identity.metadata == (try DataModelJSON.decodePlain(Array(text.utf8))))
    }

    @Test("what the operator says of the service is in it")
    func presented() {
        let identity = OAuthIdentity(
            publicURL: "https://stratos.example.com", id: "https://id.example.com/c.json", redirectURI: "https://back.example.com/here",
            secret: nil,
            presentation: .init(
                name: "Ours", logoURI: "https://l.example", termsURI: "https://t.example", policyURI: "https://p.example"))
        for (name, value) in [
            ("client_id", "https://id.example.com/c.json"), ("client_name", "Ours"), ("logo_uri", "https://l.example"),
            ("tos_uri", "https://t.example"), ("policy_uri", "https://p.example"),
        ] {
            #expect(identity.metadata[name]?.stringValue == value)
        }
        #expect(identity.metadata["redirect_uris"] == ["https://back.example.com/here"])
    }

    @Test("on this machine, all that is to be known stands in the identifier, and the browser comes back to an address")
    func local() {
        let here = identity("http://localhost:3100")
        #expect(here.redirectURI == "http://127.0.0.1:3100/oauth/callback")
        #expect(
            here.id
                == "http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%3A3100%2Foauth%2Fcallback"
                + "&scope=atproto%20repo%3Azone.stratos.actor.enrollment%20repo%3Azone.stratos.feed.post")
        #expect(identity("http://127.0.0.1:3100/at").redirectURI == "http://127.0.0.1:3100/at/oauth/callback")
        #expect(identity("http://localhost:3100", id: "http://localhost:9/c.json").id == "http://localhost:9/c.json")
        #expect(identity("http://localhost:3100", secret: .generate(.p256)).ignoresSecret)
        #expect(!identity("https://localhost", secret: .generate(.p256)).ignoresSecret)
    }

    @Test("a client with a key publishes the public half, and proves itself by it at every endpoint")
    func confidential() async throws {
        let key = PrivateKey.generate(.p256)
        let world = OAuthWorld(secret: key)
        let jwk = try #require(world.client.identity.metadata["jwks"]?["keys"]?.arrayValue?.first)
        #expect(jwk["x"]?.stringValue == key.publicKey.jwk.x && jwk["d"] == nil && jwk["kid"] == "key-1" && jwk["alg"] == "ES256")
        #expect(world.client.identity.metadata["token_endpoint_auth_method"] == "private_key_jwt")
        try await world.join()
        try await world.sessions.revoke(try DID(FakeAccountServer.alice))
        #expect(world.server.state.withLock { $0.revoked.count } == 1)
        let stranger = OAuthWorld(secret: key)
        stranger.server.change { $0.clientKeys = [PrivateKey.generate(.p256).publicKey.jwk] }
        #expect(try await stranger.refusalToBegin() == .pushRefused(error: "invalid_client"))
        let public1 = OAuthWorld(secret: key)
        public1.server.change { $0.metadata["token_endpoint_auth_methods_supported"] = ["none"] }
        #expect(
            try await public1.refusalToBegin() == .unfitServer("token_endpoint_auth_methods_supported does not list private_key_jwt"))
    }

    @Test("a client's key is taken as PEM of both kinds and as a JWK, and nothing else is")
    func secrets() throws {
        let key = P256.Signing.PrivateKey()
        let raw = Array(key.rawRepresentation)
        let ours = try PrivateKey(curve: .p256, rawBytes: raw)
        let jwk = ours.publicKey.jwk
        let d = Base64URL.encode(raw)
        // RFC 5915: version 1, the scalar, the curve's name.
        let sec1 =
            [0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20] + raw + [0xA0, 0x0A, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07]
        let base64 = Data(sec1).base64EncodedString()
        let lines = "\(base64.prefix(64))\n\(base64.dropFirst(64))"
        let texts = [
            key.pemRepresentation,
            "-----BEGIN EC PRIVATE KEY-----\n\(lines)\n-----END EC PRIVATE KEY-----",
            "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"\(jwk.x)\",\"y\":\"\(jwk.y)\",\"d\":\"\(d)\",\"kid\":\"mine\"}",
        ]
        for text in texts { #expect(try ClientSecret.key(text).publicKey == ours.publicKey, "\(text.prefix(30))") }
        let other = PrivateKey.generate(.p256).publicKey.jwk
        let k256 = try PrivateKey(curve: .k256, rawBytes: raw).publicKey.jwk
        for text in [
            "", "secret", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            P384.Signing.PrivateKey().pemRepresentation, key.publicKey.pemRepresentation,
            "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"\(other.x)\",\"y\":\"\(other.y)\",\"d\":\"\(d)\"}",
            "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"\(jwk.x)\",\"y\":\"\(jwk.y)\"}",
            "{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"\(k256.x)\",\"y\":\"\(k256.y)\",\"d\":\"\(d)\"}",
        ] {
            #expect(throws: KeysError.self, "\(text.prefix(40))") { try ClientSecret.key(text) }
        }
    }
}
