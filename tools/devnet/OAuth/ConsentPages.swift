import HTTPTypes
import Hummingbird
import NIOCore

/// The pages that a person sees on the way: plain HTML, no script.
enum ConsentPages {
    /// Asks who is there.
    /// - Parameter problem: what was wrong with the last attempt.
    static func signIn(_ request: OAuthServer.AuthorizationRequest, uri: String, token: String, problem: String? = nil) -> String {
        let name = escaped(request.client.name ?? request.client.id)
        let hint = escaped(request.parameters.loginHint ?? "")
        let warning = problem.map { "<p class=\"problem\" role=\"alert\">\(escaped($0))</p>" } ?? ""
        return page(
            "Sign in",
            """
            <h1>Sign in</h1>
            <p><strong>\(name)</strong> asks to act for you on this server. Sign in first; then you will see what it asks for.</p>
            \(warning)
            <form method="post" action="/oauth/authorize/sign-in">
            \(hidden(request, uri: uri, token: token))
            <label for="identifier">Handle</label>
            <input id="identifier" name="identifier" value="\(hint)" autocomplete="username" placeholder="alice.test" required>
            <label for="password">Password</label>
            <input id="password" name="password" type="password" autocomplete="current-password" required>
            <button id="sign-in" class="yes">Sign in</button>
            </form>
            """)
    }

    /// Asks whether the client may.
    static func consent(_ request: OAuthServer.AuthorizationRequest, account: PDS.Account, uri: String, token: String) -> String {
        let name = escaped(request.client.name ?? request.client.id)
        let scopes = request.parameters.scope.split(separator: " ").map { scope in
            "<li>\(escaped(meaning(of: String(scope)))) <code>\(escaped(String(scope)))</code></li>"
        }
        return page(
            "Allow access?",
            """
            <h1>Allow access?</h1>
            <p><strong>\(name)</strong> asks to act for <strong>@\(escaped(account.handle.description))</strong>.</p>
            <p class="detail">The application is known as <code>\(escaped(request.client.id))</code> and takes you back to
            <code>\(escaped(request.parameters.redirectURI))</code>.</p>
            <p>It will be able to:</p>
            <ul>\(scopes.joined())</ul>
            <form method="post" action="/oauth/authorize/decide">
            \(hidden(request, uri: uri, token: token))
            <button id="accept" class="yes" name="decision" value="accept">Allow</button>
            <button id="deny" name="decision" value="deny">Deny</button>
            </form>
            """)
    }

    /// Tells the person why this is the end.
    static func refusal(_ text: String) -> String {
        page("This does not work", "<h1>This does not work</h1><p role=\"alert\">\(escaped(text))</p>")
    }

    private static func meaning(of scope: String) -> String {
        switch OAuthScope(scope) {
        case .atproto: return "know who you are"
        case .transition("transition:generic"): return "read and write everything that an app password could"
        case .transition, .other: return "use"
        case .repo(let permission):
            let verbs = DevnetWrite.Action.allCases.filter(permission.actions.contains).map(\.rawValue).joined(separator: ", ")
            let collections = permission.collections?.map(\.description).sorted().joined(separator: ", ")
            return "\(verbs) records of \(collections ?? "every collection")"
        case nil: preconditionFailure("scopes were checked when the request was pushed")
        }
    }

    private static func hidden(_ request: OAuthServer.AuthorizationRequest, uri: String, token: String) -> String {
        [("client_id", request.client.id), ("request_uri", uri), ("csrf", token)].map { name, value in
            "<input type=\"hidden\" name=\"\(name)\" value=\"\(escaped(value))\">"
        }.joined(separator: "\n")
    }

    private static func page(_ title: String, _ body: String) -> String {
        """
        <!doctype html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>\(title) · devnet PDS</title>
        <style>
        body { margin: 0; background: #f3f4f6; color: #1f2933; font: 16px/1.5 system-ui, sans-serif; }
        main { max-width: 26rem; margin: 10vh auto; padding: 2rem; background: #fff; border: 1px solid #d9dee4; border-radius: 8px;
          overflow-wrap: anywhere; }
        h1 { margin-top: 0; font-size: 1.4rem; }
        label { display: block; margin-top: 1rem; font-weight: 600; }
        input { width: 100%; box-sizing: border-box; padding: .5rem; font: inherit; border: 1px solid #9aa5b1; border-radius: 4px; }
        button { margin: 1.5rem .5rem 0 0; padding: .6rem 1.4rem; font: inherit; border: 1px solid #9aa5b1; border-radius: 4px;
          background: #fff; cursor: pointer; }
        button.yes { background: #1456b8; border-color: #1456b8; color: #fff; }
        code { font-size: .85em; color: #52606d; }
        .detail, footer { color: #52606d; font-size: .875rem; }
        .problem { padding: .5rem .75rem; background: #fdecea; color: #8a1c12; border-radius: 4px; }
        </style>
        </head>
        <body><main>
        \(body)
        <footer><p>A development server. Accounts here are for tests.</p></footer>
        </main></body>
        </html>

        """
    }

    static func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;").replacing("\"", with: "&quot;")
            .replacing("'", with: "&#39;")
    }
}

extension Response {
    /// A page that no cache keeps, no other site frames, and that loads nothing.
    static func page(_ html: String, status: HTTPResponse.Status = .ok) -> Response {
        var headers: HTTPFields = [
            .contentType: "text/html; charset=utf-8", .contentLength: String(html.utf8.count), .cacheControl: "no-store",
            .contentSecurityPolicy: "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
        ]
        headers[.xContentTypeOptions] = "nosniff"
        return Response(status: status, headers: headers, body: .init(byteBuffer: ByteBuffer(string: html)))
    }

    static func found(_ location: String, status: HTTPResponse.Status = .found) -> Response {
        Response(status: status, headers: [.location: location, .cacheControl: "no-store", .contentLength: "0"])
    }
}
