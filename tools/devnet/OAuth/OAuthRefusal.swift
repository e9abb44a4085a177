import ATProto
import HTTPTypes
import Hummingbird

/// A refusal of the authorization server, with the name that RFC 6749 and its companions give it: `{error, error_description}`.
struct OAuthRefusal: Error, Equatable {
    let status: HTTPResponse.Status
    let name: String
    let description: String
    /// Whether `WWW-Authenticate` names it too, as RFC 9449 asks where a proof or a token is at fault.
    let isChallenge: Bool

    private init(_ name: String, _ description: String, status: HTTPResponse.Status = .badRequest, isChallenge: Bool = false) {
        self.status = status
        self.name = name
        self.description = description
        self.isChallenge = isChallenge
    }

    static func invalidRequest(_ description: String) -> OAuthRefusal { OAuthRefusal("invalid_request", description) }
    static func invalidClient(_ description: String) -> OAuthRefusal { OAuthRefusal("invalid_client", description) }
    static func invalidClientMetadata(_ description: String) -> OAuthRefusal { OAuthRefusal("invalid_client_metadata", description) }
    static func invalidGrant(_ description: String) -> OAuthRefusal { OAuthRefusal("invalid_grant", description) }
    static func invalidScope(_ description: String) -> OAuthRefusal { OAuthRefusal("invalid_scope", description) }
    static func invalidProof(_ description: String) -> OAuthRefusal {
        OAuthRefusal("invalid_dpop_proof", description, status: .unauthorized, isChallenge: true)
    }
    static func invalidToken(_ description: String) -> OAuthRefusal {
        OAuthRefusal("invalid_token", description, status: .unauthorized, isChallenge: true)
    }
    /// The other refusals of an authorization request, which the client learns from its redirect or from PAR.
    static func authorization(_ name: String, _ description: String) -> OAuthRefusal { OAuthRefusal(name, description) }

    static let wrongKey = invalidToken("Invalid DPoP key binding")

    static func useNonce(_ description: String = "Authorization server requires nonce in DPoP proof") -> OAuthRefusal {
        OAuthRefusal("use_dpop_nonce", description)
    }

    /// As the authorization server says it.
    var response: Response {
        var response = Response.json(["error": .string(name), "error_description": .string(description)], status: status)
        if isChallenge { response.headers[.wwwAuthenticate] = challenge }
        return response
    }

    /// As the resource server says it: in XRPC's form, and what is wrong with the credential always a challenge (RFC 9449, 9).
    var resourceResponse: Response {
        let isAboutCredential = isChallenge || name == "use_dpop_nonce"
        var response = Response.json(
            ["error": .string(name), "message": .string(description)], status: isAboutCredential ? .unauthorized : status)
        if isAboutCredential { response.headers[.wwwAuthenticate] = challenge }
        return response
    }

    private var challenge: String {
        let quoted = description.replacing("\"", with: "'")
        return "DPoP algs=\"\(PDS.proofAlgorithms.joined(separator: " "))\", error=\"\(name)\", error_description=\"\(quoted)\""
    }
}
