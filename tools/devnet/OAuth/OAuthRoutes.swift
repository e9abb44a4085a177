import ATProto
import HTTPTypes
import Hummingbird

/// The authorization server over HTTP.
func addOAuth(to router: Router<DevnetContext>, server: OAuthServer) {
    router.get("/oauth/jwks") { _, _ in Response.json(server.pds.jwks) }
    router.post("/oauth/par") { request, _ in
        await server.endpoint {
            let key = try server.provenKey(of: request)
            let (uri, lifetime) = try await server.push(try await FormFields.read(request), key: key)
            return Response.json(["request_uri": .string(uri), "expires_in": .integer(lifetime)], status: .created)
        }
    }
    router.post("/oauth/token") { request, _ in
        await server.endpoint {
            let key = try server.provenKey(of: request)
            return Response.json(try await server.token(try await FormFields.read(request), key: key))
        }
    }
    router.post("/oauth/revoke") { request, _ in
        await server.endpoint {
            let key = try server.provenKey(of: request)
            try await server.revoke(try await FormFields.read(request), key: key)
            return Response.json([:])
        }
    }
    addConsentPages(to: router, server: server)
}

private func addConsentPages(to router: Router<DevnetContext>, server: OAuthServer) {
    router.get("/oauth/authorize") { request, _ in
        try await server.page(for: request) { browser in
            let query = try FormFields(encoded: request.uri.query ?? "")
            let uri = query["request_uri"]
            let opened = try server.open(uri, client: query["client_id"], in: browser)
            guard let account = opened.account.flatMap({ server.pds.account($0) }) else {
                return Response.page(ConsentPages.signIn(opened, uri: uri ?? "", token: browser.token))
            }
            return Response.page(ConsentPages.consent(opened, account: account, uri: uri ?? "", token: browser.token))
        }
    }
    router.post("/oauth/authorize/sign-in") { request, _ in
        try await server.page(for: request) { browser in
            let form = try await server.form(of: request, in: browser)
            let uri = try form.required("request_uri")
            let opened = try server.open(uri, client: form["client_id"], in: browser)
            guard server.signIn(form["identifier"] ?? "", password: form["password"] ?? "", for: uri) else {
                let page = ConsentPages.signIn(opened, uri: uri, token: browser.token, problem: "Invalid identifier or password")
                return Response.page(page, status: .badRequest)
            }
            let query = FormFields.encoded([("client_id", opened.client.id), ("request_uri", uri)])
            return Response.found("/oauth/authorize?\(query)", status: .seeOther)
        }
    }
    router.post("/oauth/authorize/decide") { request, _ in
        try await server.page(for: request) { browser in
            let form = try await server.form(of: request, in: browser)
            let uri = try form.required("request_uri")
            guard let decision = OAuthServer.Decision(rawValue: try form.required("decision")) else {
                throw OAuthServer.Ending.page("The decision must be accept or deny.")
            }
            _ = try server.open(uri, client: form["client_id"], in: browser)
            return Response.found(try server.decide(decision, on: uri))
        }
    }
}

extension OAuthServer {
    private static let cookie = "devnet-browser"

    /// What clients call: never cached, always with the nonce to use next.
    fileprivate func endpoint(_ body: () async throws -> Response) async -> Response {
        var response: Response
        do {
            response = try await body()
        } catch let refusal as OAuthRefusal {
            response = refusal.response
        } catch let refusal as XRPCRefusal {
            response = OAuthRefusal.invalidRequest(refusal.message).response
        } catch {
            response = Response.json(["error": "server_error", "error_description": .string("\(error)")], status: .internalServerError)
        }
        response.headers[.cacheControl] = "no-store"
        addNonce(to: &response)
        return response
    }

    /// RFC 9449, sections 8.2 and 9: every answer to a request that carried a proof, and to one that should have.
    func addNonce(to response: inout Response) {
        response.headers[.dpopNonce] = nextNonce
        response.headers[.accessControlExposeHeaders] = "DPoP-Nonce, WWW-Authenticate"
    }

    /// What people see; the browser gets its cookie on the way.
    fileprivate func page(for request: Request, _ body: (Browser) async throws -> Response) async throws -> Response {
        let browser = try browser(request.cookies[Self.cookie]?.value)
        var response: Response
        do {
            response = try await body(browser)
        } catch let ending as Ending {
            switch ending {
            case .redirect(let url): response = .found(url)
            case .page(let text): response = .page(ConsentPages.refusal(text), status: .badRequest)
            }
        } catch let refusal as OAuthRefusal {
            response = .page(ConsentPages.refusal(refusal.description), status: refusal.status)
        }
        response.headers[.setCookie] = "\(Self.cookie)=\(browser.id); Path=/oauth; HttpOnly; SameSite=Lax"
        return response
    }

    /// The fields of a form that this browser got from us.
    fileprivate func form(of request: Request, in browser: Browser) async throws -> FormFields {
        let form = try await FormFields.read(request)
        guard form["csrf"] == browser.token else {
            throw Ending.page("This form does not come from the page that you opened. Go back and try again.")
        }
        return form
    }
}
