import ATProto
import HTTPTypes
import Hummingbird
import NIOCore
import ServiceLifecycle

/// A refusal in XRPC's form: `{"error": name, "message": text}`.
struct XRPCRefusal: Error {
    let status: HTTPResponse.Status
    let name: String
    let message: String

    init(_ status: HTTPResponse.Status, _ name: String, _ message: String) {
        self.status = status
        self.name = name
        self.message = message
    }

    static func invalidRequest(_ message: String) -> XRPCRefusal { XRPCRefusal(.badRequest, "InvalidRequest", message) }
    static func invalidToken(_ message: String) -> XRPCRefusal { XRPCRefusal(.badRequest, "InvalidToken", message) }
    static func authenticationRequired(_ message: String) -> XRPCRefusal { XRPCRefusal(.unauthorized, "AuthenticationRequired", message) }

    init(_ error: DevnetError) {
        switch error {
        case .handleTaken(let handle): self.init(.badRequest, "HandleNotAvailable", "Handle already taken: \(handle)")
        case .unsupportedHandle: self.init(.badRequest, "UnsupportedDomain", "Not a supported handle domain")
        case .noAccount(let did): self = .invalidRequest("Could not find repo: \(did)")
        case .notListening, .file, .unreadable, .portMoved, .noRandomBytes:
            self.init(.internalServerError, "InternalServerError", "\(error)")
        }
    }

    var response: Response { .json(["error": .string(name), "message": .string(message)], status: status) }
}

/// Writes what has changed to the data file, where there is one.
typealias Keep = @Sendable () throws(DevnetError) -> Void

extension Response {
    static func json(
        _ value: Value, status: HTTPResponse.Status = .ok, contentType: String = "application/json; charset=utf-8"
    ) -> Response {
        let bytes = DataModelJSON.encode(value)
        return Response(
            status: status, headers: [.contentType: contentType, .contentLength: String(bytes.count)],
            body: .init(byteBuffer: ByteBuffer(bytes: bytes)))
    }

    static func text(_ text: String, status: HTTPResponse.Status = .ok) -> Response {
        Response(
            status: status, headers: [.contentType: "text/plain; charset=utf-8", .contentLength: String(text.utf8.count)],
            body: .init(byteBuffer: ByteBuffer(string: text)))
    }
}

extension Request {
    /// The JSON object of the body, in which `$type` and its like are keys as others are.
    func jsonObject() async throws -> ValueMap {
        let mediaType = headers[.contentType]?.split(separator: ";").first?.lowercased()
        guard mediaType == "application/json" else {
            throw XRPCRefusal.invalidRequest("Wrong request encoding (Content-Type): \(mediaType ?? "none")")
        }
        let bytes = try await body.collect(upTo: 2 << 20)
        do {
            guard case .map(let map) = try DataModelJSON.decodePlain(Array(bytes.readableBytesView)) else {
                throw XRPCRefusal.invalidRequest("the body must be a JSON object")
            }
            return map
        } catch let error as DataModelJSONError {
            throw XRPCRefusal.invalidRequest("\(error)")
        }
    }
}

/// Gives every answer its CORS header and turns what was thrown into one; before that, does the harm that a fault asks for. After
/// a request that may have changed something it has that kept.
struct DevnetMiddleware: RouterMiddleware {
    typealias Context = DevnetContext

    let faults: Faults
    let keep: Keep
    let part: @Sendable (String) -> DevnetPart?

    /// Thrown in place of an answer, once the connection is closed.
    private struct NoAnswer: Error {}

    func handle(
        _ request: Request, context: DevnetContext, next: (Request, DevnetContext) async throws -> Response
    ) async throws -> Response {
        let fault = part(request.uri.path).flatMap { faults.meet($0) }
        if case .down = fault { throw await hangUp(context) }
        if case .slow(let delay) = fault {
            // A server that is told to stop does not wait for its own slowness.
            try await cancelWhenGracefulShutdown { try await Task.sleep(for: delay) }
        }
        var response: Response
        if case .error(let code) = fault {
            response = .json(["message": "the devnet was told to fail"], status: .init(code: code))
        } else {
            response = try await answer(request, context: context, next: next)
        }
        if case .afterwards = fault { throw await hangUp(context) }
        if case .wrongContentType = fault { response.headers[.contentType] = "text/html; charset=utf-8" }
        response.headers[.accessControlAllowOrigin] = "*"
        return response
    }

    /// What is written after this finds the connection closed, so the client gets nothing.
    private func hangUp(_ context: DevnetContext) async -> NoAnswer {
        // best effort: a client that went away first has closed it already, and then there is nothing to count.
        try? await context.channel.close()
        return NoAnswer()
    }

    private func answer(
        _ request: Request, context: DevnetContext, next: (Request, DevnetContext) async throws -> Response
    ) async throws -> Response {
        do {
            let response = try await answerOrRefusal(request, context: context, next: next)
            // After refusals too: some of them end a session.
            if request.method == .post { try keep() }
            return response
        } catch let error as DevnetError {
            return XRPCRefusal(error).response
        }
    }

    private func answerOrRefusal(
        _ request: Request, context: DevnetContext, next: (Request, DevnetContext) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch let refusal as XRPCRefusal {
            return refusal.response
        } catch let error as PLCError {
            return error.response
        } catch let error as any HTTPResponseError {
            return XRPCRefusal(error.status, error.status == .notFound ? "NotFound" : "InvalidRequest", error.status.reasonPhrase).response
        } catch is NIOTooManyBytesError {
            return XRPCRefusal(.contentTooLarge, "PayloadTooLarge", "request entity too large").response
        }
    }
}
