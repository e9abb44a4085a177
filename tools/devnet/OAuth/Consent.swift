import ATProto

/// The way of a person through the pages, step by step: open the request in a browser, sign in, decide. The pages and the scripted
/// consent both go it.
extension OAuthServer {
    /// Milliseconds in which a code must be exchanged.
    private static let codeLifetime: Int64 = 300_000

    enum Decision: String, Sendable { case accept, deny }

    /// How the page of a request ends at once.
    enum Ending: Error, Equatable {
        /// The client hears of it.
        case redirect(String)
        /// The client must not, or cannot: the person is told.
        case page(String)
    }

    /// A browser that holds the cookie of this server, and the token that its forms must carry.
    struct Browser: Sendable {
        let id: String
        let token: String
    }

    /// The browser with this cookie; a new one for a cookie that is unknown or missing.
    func browser(_ cookie: String?) throws(DevnetError) -> Browser {
        if let cookie, let token = state.withLock({ $0.browsers[cookie] }) { return Browser(id: cookie, token: token) }
        let browser = Browser(id: "dev-\(try PDS.randomHex(16))", token: try PDS.randomHex(16))
        state.withLock { state in
            if state.browsers.count >= 10_000 { state.browsers.removeAll() }
            state.browsers[browser.id] = browser.token
        }
        return browser
    }

    /// The request that a browser has before it, which from now on is this browser's alone.
    func open(_ uri: String?, client id: String?, in browser: Browser) throws -> AuthorizationRequest {
        guard let uri else { throw Ending.page("The request_uri is missing: this server takes pushed requests alone.") }
        let now = pds.clock()
        return try state.withLock { state in
            guard var request = state.requests[uri] else {
                throw Ending.page("This request is unknown, or was decided already. Go back to the application and begin again.")
            }
            guard id == request.client.id else {
                state.requests[uri] = nil
                throw Ending.page("This request was made by another application.")
            }
            guard request.browser == nil || request.browser == browser.id else {
                state.requests[uri] = nil
                throw Ending.page("This request was opened in another browser.")
            }
            guard now < request.expires else {
                state.requests[uri] = nil
                throw Ending.redirect(redirect(of: request, error: "access_denied", "This request has expired"))
            }
            guard !request.parameters.isSilent else {
                state.requests[uri] = nil
                throw Ending.redirect(redirect(of: request, error: "login_required", "Login is required"))
            }
            request.browser = browser.id
            state.requests[uri] = request
            return request
        }
    }

    /// - Returns: false for an unknown account and a wrong password alike.
    func signIn(_ identifier: String, password: String, for uri: String) -> Bool {
        let name = identifier.hasPrefix("@") ? String(identifier.dropFirst()) : identifier
        guard let account = (try? ATIdentifier(name)).flatMap({ pds.account($0) }), account.password == password else { return false }
        state.withLock { $0.requests[uri]?.account = account.did }
        return true
    }

    /// Ends the request.
    /// - Returns: where the browser goes: the client's redirect with a code, or with `access_denied`.
    func decide(_ decision: Decision, on uri: String) throws -> String {
        let code = "cod-\(try PDS.randomHex(32))"
        let now = pds.clock()
        return try state.withLock { state in
            guard let request = state.requests[uri] else { throw Ending.page("This request is unknown, or was decided already.") }
            if decision == .deny {
                state.requests[uri] = nil
                return redirect(of: request, error: "access_denied", "Access denied")
            }
            guard let account = request.account else { throw Ending.page("Nobody has signed in for this request.") }
            state.requests[uri] = nil
            state.codes = state.codes.filter { $0.value.expires > now }
            state.codes[code] = Grant(request: request, account: account, expires: now + Self.codeLifetime)
            return redirect(of: request, [("code", code)])
        }
    }

    private func redirect(of request: AuthorizationRequest, error: String, _ description: String) -> String {
        redirect(of: request, [("error", error), ("error_description", description)])
    }

    /// RFC 9207: the answer names its issuer, so that answers of two servers cannot be mixed up.
    private func redirect(of request: AuthorizationRequest, _ answer: [(name: String, value: String)]) -> String {
        let parameters = request.parameters
        var fields: [(name: String, value: String)] = [("iss", pds.url)]
        if let state = parameters.state { fields.append(("state", state)) }
        let encoded = FormFields.encoded(fields + answer)
        switch parameters.responseMode {
        case .fragment: return "\(parameters.redirectURI)#\(encoded)"
        case .query: return "\(parameters.redirectURI)\(parameters.redirectURI.contains("?") ? "&" : "?")\(encoded)"
        }
    }
}

/// Why a scripted consent came to nothing.
package enum DevnetConsentError: Error, Equatable {
    /// The URL is not one of this server's authorization pages.
    case notOurs(String)
    /// What the page would have told the person.
    case refused(String)
}

extension OAuthServer {
    /// Does what a person does at `url`, in a browser of its own.
    /// - Returns: the URL that the browser is sent to.
    func consent(at url: String, as account: PDS.Account, _ decision: Decision) throws -> String {
        let start = "\(pds.url)/oauth/authorize?"
        guard url.hasPrefix(start) else { throw DevnetConsentError.notOurs(url) }
        do {
            let query = try FormFields(encoded: url.dropFirst(start.count))
            let uri = query["request_uri"]
            _ = try open(uri, client: query["client_id"], in: try browser(nil))
            guard let uri, signIn(account.did.description, password: account.password, for: uri) else {
                preconditionFailure("an open request has a request_uri, and an account signs in with its own password")
            }
            return try decide(decision, on: uri)
        } catch let ending as Ending {
            switch ending {
            case .redirect(let url): return url
            case .page(let text): throw DevnetConsentError.refused(text)
            }
        } catch let refusal as OAuthRefusal {
            throw DevnetConsentError.refused(refusal.description)
        }
    }
}
