import ATProto
import Authorization
import HTTPTypes
import Hummingbird
import NIOCore

/// The few pages that people see: how joining ended. They are whole in themselves: no script, no picture and no type from elsewhere, and
/// the policy that goes with them lets a browser fetch nothing. They read well on a telephone, in the dark, and aloud.
enum OAuthPages {
    /// For every answer of these routes: a browser may show it, apply this one style, and do nothing else.
    static let policy: String = {
        var digest: [UInt8] = []
        Base64.encode(CID(hashing: Array(style.utf8), codec: .raw).digest, into: &digest)
        return "default-src 'none'; style-src 'sha256-\(String(decoding: digest, as: UTF8.self))='; base-uri 'none'; form-action 'none'; "
            + "frame-ancestors 'none'"
    }()

    static func joined(_ ending: OAuthClient.Ending, isNew: Bool, service: String) -> Response {
        let name = ending.handle.map { "@\($0)" } ?? ending.did.description
        return page(
            title: isNew ? "You have joined" : "Welcome back",
            mark: "<path d=\"M9 16.5l4.5 4.5L23 11.5\"/>", kind: "good",
            """
            <p class="lead"><strong>\(escaped(name))</strong> \(isNew ? "is now a member of" : "was already a member of") \
            <strong>\(escaped(host(of: service)))</strong>.</p>
            <dl>
            <div><dt>Account</dt><dd>\(escaped(ending.did.description))</dd></div>
            <div><dt>Its server</dt><dd>\(escaped(host(of: ending.pds)))</dd></div>
            </dl>
            <p>Your private records are kept there, and only people who share a boundary with you can read them. On your own server stand \
            a record that says that you are a member, and placeholders of your posts, without their contents.</p>
            <p class="next">You can close this window and go back to your app.</p>
            """)
    }

    static func refused(_ error: XRPCError, service: String) -> Response {
        var response = page(
            title: error.status == .forbidden ? "Not let in" : "That did not work",
            mark: "<path d=\"M16 9v8.5M16 22.2v.3\"/>", kind: "bad",
            """
            <p class="lead">\(escaped(error.message)).</p>
            <p>Go back to your app to begin again. Whoever runs <strong>\(escaped(host(of: service)))</strong> can find what happened by \
            the name below.</p>
            <dl><div><dt>Reason</dt><dd>\(escaped(error.name))</dd></div></dl>
            """)
        response.status = error.status
        return response
    }

    private static func host(of url: String) -> String {
        guard let origin = WebOrigin(ofURL: url) else { return url }
        return origin.host + (origin.port.map { ":\($0)" } ?? "")
    }

    /// - Parameter content: HTML, with all that is not ours escaped.
    private static func page(title: String, mark: String, kind: String, _ content: String) -> Response {
        let html = """
            <!doctype html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta name="color-scheme" content="light dark">
            <title>\(title) · Stratos</title>
            <style>\(style)</style>
            </head>
            <body>
            <main>
            <svg class="\(kind)" viewBox="0 0 32 32" width="56" height="56" aria-hidden="true"><circle cx="16" cy="16" r="14.5"/>\(mark)</svg>
            <h1>\(title)</h1>
            \(content)
            </main>
            <footer>Stratos · a private layer for AT Protocol</footer>
            </body>
            </html>

            """
        return Response(
            status: .ok, headers: [.contentType: "text/html; charset=utf-8", .contentLength: String(html.utf8.count)],
            body: .init(byteBuffer: ByteBuffer(string: html)))
    }

    static func escaped(_ text: String) -> String {
        var escaped = ""
        for character in text {
            switch character {
            case "&": escaped += "&amp;"
            case "<": escaped += "&lt;"
            case ">": escaped += "&gt;"
            case "\"": escaped += "&quot;"
            case "'": escaped += "&#39;"
            default: escaped.append(character)
            }
        }
        return escaped
    }

    private static let style = """
        :root{color-scheme:light dark;--ground:#f3f5f9;--card:#fff;--text:#1a2233;--soft:#56607a;--line:#e2e7f0;--good:#146c43;--bad:#a5331c}
        @media(prefers-color-scheme:dark){:root{--ground:#10141d;--card:#191f2c;--text:#e8ecf5;--soft:#a3aec4;--line:#2b3446;\
        --good:#63d297;--bad:#ff9b80}}
        *{box-sizing:border-box}
        body{margin:0;min-height:100vh;display:flex;flex-direction:column;align-items:center;justify-content:center;gap:1.5rem;\
        padding:1.5rem;background:var(--ground);color:var(--text);font:1rem/1.6 system-ui,-apple-system,"Segoe UI",sans-serif}
        main{width:100%;max-width:30rem;padding:2.25rem 2rem;background:var(--card);border:1px solid var(--line);border-radius:1rem;\
        box-shadow:0 1px 2px rgb(0 0 0/6%),0 12px 32px rgb(0 0 0/7%)}
        svg{display:block;fill:none;stroke-width:2.5;stroke-linecap:round;stroke-linejoin:round}
        .good{stroke:var(--good)}.bad{stroke:var(--bad)}
        h1{margin:1rem 0 .5rem;font-size:1.6rem;line-height:1.25;letter-spacing:-.01em}
        p{margin:0 0 1rem;color:var(--soft)}.lead{font-size:1.08rem;color:var(--text)}strong{color:var(--text);overflow-wrap:anywhere}
        dl{margin:0 0 1rem;border-top:1px solid var(--line)}
        dl div{display:flex;flex-wrap:wrap;justify-content:space-between;gap:.25rem 1rem;padding:.65rem 0;border-bottom:1px solid var(--line)}
        dt{color:var(--soft)}dd{margin:0;font-family:ui-monospace,SFMono-Regular,Menlo,monospace;font-size:.9rem;overflow-wrap:anywhere}
        main>:last-child{margin-bottom:0}.next{font-weight:600;color:var(--text)}
        footer{color:var(--soft);font-size:.85rem}
        """
}
