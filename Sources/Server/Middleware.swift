import ATProto
import HTTPTypes
import Hummingbird
import Logging
import NIOCore

extension HTTPField.Name {
    static let traceID = HTTPField.Name("x-trace-id")!
    static let idempotencyKey = HTTPField.Name("Idempotency-Key")!
    static let repoRev = HTTPField.Name("Atproto-Repo-Rev")!
}

/// Every page may read every answer (CORS).
private let sharingHeaders: HTTPFields = [
    .accessControlAllowOrigin: "*", .accessControlExposeHeaders: "DPoP-Nonce,WWW-Authenticate,x-trace-id",
]

/// Gives every answer its trace id, the CORS headers, and the protocol's error form; logs what nobody foresaw, once, without
/// the request's content (wire contract, section 1.0).
struct EdgeMiddleware<Context: RequestContext>: RouterMiddleware {
    let logger: Logger
    /// The nonce for the next proof of possession.
    let nonce: @Sendable () -> String

    func handle(_ request: Request, context: Context, next: (Request, Context) async throws -> Response) async throws -> Response {
        let trace = traceID(of: request)
        var response: Response
        if request.method == .options {
            response = preflight(request)
        } else {
            do {
                response = try await next(request, context)
            } catch let broken as BrokenRequest {
                logger.debug("a request broke off", metadata: ["trace": .string(trace), "error": "\(broken.cause)"])
                throw broken.cause
            } catch {
                response = refusal(error, of: request, trace: trace).response
            }
        }
        if request.method == .head { response = try await headOnly(response) }
        response.headers[.traceID] = trace
        response.headers[.dpopNonce] = nonce()
        response.headers.append(contentsOf: sharingHeaders)
        logger.debug(
            "request",
            metadata: [
                "trace": .string(trace), "method": .string(request.method.rawValue), "route": .string(Self.route(of: request)),
                "status": .stringConvertible(response.status.code),
            ])
        return response
    }

    /// What was asked for, as far as it can say nothing of anybody: the method's name, or a plain path of our own.
    private static func route(of request: Request) -> String {
        let path = request.uri.path
        if path.hasPrefix("/xrpc/") { return (try? NSID(String(path.dropFirst(6))))?.description ?? "no method" }
        return ownPaths.contains(path) ? path : "other"
    }

    private static var ownPaths: Set<String> {
        [
            "/", "/health", "/ready", "/robots.txt", "/.well-known/did.json", "/client-metadata.json",
            "/.well-known/oauth-client-metadata.json", "/oauth/authorize", "/oauth/callback", "/oauth/status", "/oauth/revoke",
        ]
    }

    private func refusal(_ error: any Error, of request: Request, trace: String) -> XRPCError {
        if let refusal = error as? XRPCError ?? XRPCError(wording: error) { return refusal }
        if let refusal = error as? any HTTPResponseError {
            guard refusal.status == .notFound else { return XRPCError(refusal.status, "InvalidRequest", refusal.status.reasonPhrase) }
            return request.uri.path == "/xrpc" || request.uri.path.hasPrefix("/xrpc/") ? .invalidPath : .notFound
        }
        logger.error("request failed", metadata: ["trace": .string(trace), "route": .string(Self.route(of: request)), "error": "\(error)"])
        return .internalServerError
    }

    /// The answer without its body, with the length that the body has.
    private func headOnly(_ response: Response) async throws -> Response {
        var length = response.body.contentLength ?? 0
        if response.body.contentLength == nil {
            let counter = CountingWriter()
            try await response.body.write(counter)
            length = counter.count
        }
        var headers = response.headers
        if response.status != .noContent { headers[.contentLength] = String(length) }
        return Response(status: response.status, headers: headers)
    }

    private func preflight(_ request: Request) -> Response {
        var headers: HTTPFields = [.accessControlAllowMethods: "GET,HEAD,PUT,PATCH,POST,DELETE"]
        if let asked = request.headers[.accessControlRequestHeaders] {
            headers[.accessControlAllowHeaders] = asked
            headers[.vary] = "Access-Control-Request-Headers"
        }
        return Response(status: .noContent, headers: headers)
    }

    /// The caller's own trace id where it is short and plain, else 16 hex digits.
    private func traceID(of request: Request) -> String {
        if let given = request.headers[.traceID], (1...128).contains(given.utf8.count),
            given.utf8.allSatisfy({ (0x21...0x7e).contains($0) })
        {
            return given
        }
        let digits = String(UInt64.random(in: .min ... .max), radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

/// Takes a body that is only to be measured.
private final class CountingWriter: ResponseBodyWriter {
    private(set) var count = 0

    func write(_ buffer: ByteBuffer) { count += buffer.readableBytes }
    func finish(_ trailers: HTTPFields?) {}
}
