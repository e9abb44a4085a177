import HTTPTypes
import Hummingbird
import Logging

extension HTTPField.Name {
    static let traceID = HTTPField.Name("x-trace-id")!
    static let idempotencyKey = HTTPField.Name("Idempotency-Key")!
    static let repoRev = HTTPField.Name("Atproto-Repo-Rev")!
}

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
            } catch let refusal as XRPCError {
                response = refusal.response
            } catch let error as any HTTPResponseError {
                response = XRPCError(error.status, Self.name(of: error.status), error.status.reasonPhrase).response
            } catch {
                logger.error("request failed", metadata: ["trace": .string(trace), "path": .string(request.uri.path), "error": "\(error)"])
                response = XRPCError.internalServerError.response
            }
        }
        response.headers[.traceID] = trace
        response.headers[.dpopNonce] = nonce()
        response.headers[.accessControlAllowOrigin] = "*"
        response.headers[.accessControlExposeHeaders] = "DPoP-Nonce,WWW-Authenticate,x-trace-id"
        return response
    }

    private func preflight(_ request: Request) -> Response {
        var headers: HTTPFields = [.accessControlAllowMethods: "GET,HEAD,PUT,PATCH,POST,DELETE", .contentLength: "0"]
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

    private static func name(of status: HTTPResponse.Status) -> String {
        switch status {
        case .unauthorized: "AuthenticationRequired"
        case .forbidden: "Forbidden"
        case .notFound: "XRPCNotSupported"
        case .contentTooLarge: "PayloadTooLarge"
        case .tooManyRequests: "RateLimitExceeded"
        case .internalServerError: "InternalServerError"
        case .notImplemented: "MethodNotImplemented"
        default: "InvalidRequest"
        }
    }
}
