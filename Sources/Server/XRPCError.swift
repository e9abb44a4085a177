package import HTTPTypes
package import Hummingbird
import NIOCore
import ATProto
import Authorization
import Commands
import EventLog

/// An answer that refuses, in the protocol's own form: `{"error": name, "message": text}` (wire contract, section 1.0).
package struct XRPCError: Error, HTTPResponseError, Sendable {
    package let status: HTTPResponse.Status
    package let name: String
    package let message: String
    package var headers: HTTPFields = [:]

    package init(_ status: HTTPResponse.Status, _ name: String, _ message: String, headers: HTTPFields = [:]) {
        self.status = status
        self.name = name
        self.message = message
        self.headers = headers
    }

    static func invalidRequest(_ message: String) -> XRPCError { XRPCError(.badRequest, "InvalidRequest", message) }
    static func authenticationRequired(_ message: String) -> XRPCError { XRPCError(.unauthorized, "AuthenticationRequired", message) }
    static let recordNotFound = XRPCError(.badRequest, "RecordNotFound", "Record not found")
    static let repoNotFound = XRPCError(.badRequest, "RepoNotFound", "Could not find repo")
    static let internalServerError = XRPCError(.internalServerError, "InternalServerError", "Internal Server Error")
    static let methodNotImplemented = XRPCError(.notImplemented, "MethodNotImplemented", "Method Not Implemented")
    static let invalidPath = XRPCError.invalidRequest("invalid xrpc path")
    static let notFound = XRPCError(.notFound, "NotFound", "Not Found")
    static let busy = XRPCError(
        .tooManyRequests, "RateLimitExceeded", "Too many large requests are arriving", headers: [.retryAfter: "1"])
    static let exportsBusy = XRPCError(
        .tooManyRequests, "RateLimitExceeded", "Too many large repos are being read", headers: [.retryAfter: "5"])
    static let insufficientStorage = XRPCError(
        .init(code: 507, reasonPhrase: "Insufficient Storage"), "InsufficientStorage", "The service has no space left for writes",
        headers: [.retryAfter: "60"])
    static let payloadTooLarge = XRPCError(.contentTooLarge, "PayloadTooLarge", "request entity too large")

    init(_ refusal: Refusal) {
        switch refusal {
        case .overloaded: self.init(.tooManyRequests, refusal.name, refusal.reason, headers: [.retryAfter: "1"])
        default: self.init(.badRequest, refusal.name, refusal.reason)
        }
    }

    static func unavailable(_ message: String) -> XRPCError {
        XRPCError(.serviceUnavailable, "ServiceUnavailable", message, headers: [.retryAfter: "5"])
    }

    /// What a client may know of an error of the layers below, in the wire's words; nil for what nobody foresaw.
    init?(wording error: any Error) {
        switch error {
        case let refusal as Refusal: self.init(refusal)
        case EventLogError.alreadyUsed: self.init(.unauthorized, "AuthenticationRequired", TokenError.replayed.message)
        case EventLogError.overloaded: self.init(.overloaded)
        case EventLogError.noSpace: self = .insufficientStorage
        case EventLogError.closed: self = .unavailable("The service is stopping")
        default: return nil
        }
    }

    static func rateLimited(_ wait: Duration) -> XRPCError {
        let seconds = max(1, wait.components.seconds + (wait.components.attoseconds > 0 ? 1 : 0))
        return XRPCError(
            .tooManyRequests, "RateLimitExceeded", "Write rate limit exceeded. Try again in \(seconds)s.",
            headers: [.retryAfter: String(seconds)])
    }

    /// Runs a command of the engine, its refusals in the wire's words, for a caller who answers some of them otherwise.
    static func wording<Result>(_ body: () async throws -> Result) async throws -> Result {
        do { return try await body() } catch { throw XRPCError(wording: error) ?? error }
    }

    package func response(from request: Request, context: some RequestContext) -> Response { response }

    var response: Response {
        var answer = Response.json(["error": .string(name), "message": .string(message)], status: status)
        for field in headers { answer.headers[field.name] = field.value }
        return answer
    }
}

extension Response {
    /// A JSON answer in the data model's form.
    static func json(_ value: Value, status: HTTPResponse.Status = .ok) -> Response {
        let bytes = DataModelJSON.encode(value)
        return Response(
            status: status,
            headers: [.contentType: "application/json; charset=utf-8", .contentLength: String(bytes.count)],
            body: .init(byteBuffer: ByteBuffer(bytes: bytes)))
    }

    static func text(_ text: String) -> Response {
        Response(status: .ok, headers: [.contentType: "text/plain; charset=utf-8"], body: .init(byteBuffer: ByteBuffer(string: text)))
    }
}
