import HTTPTypes
package import Hummingbird
import NIOCore
import NIOHTTPTypes

/// What a handler knows of the connection that its request came on.
package struct ConnectionContext: RequestContext {
    package var coreContext: CoreRequestContextStorage
    let channel: any Channel

    package init(source: Source) {
        coreContext = .init(source: source)
        channel = source.channel
    }
}

/// Answers `Expect: 100-continue` (RFC 9110, section 10.1.1): a client that asks before it sends a body is told to send it when
/// somebody reads it, and not before. So whoever is refused for what the head says is refused at once.
///
/// Other expectations are none of this server's, and are passed over.
struct ExpectContinue: RouterMiddleware {
    func handle(
        _ request: Request, context: ConnectionContext, next: (Request, ConnectionContext) async throws -> Response
    ) async throws -> Response {
        guard request.head.asksBeforeBody else { return try await next(request, context) }
        var request = request
        request.body = RequestBody(asyncSequence: InvitedBody(body: request.body, channel: context.channel))
        return try await next(request, context)
    }
}

extension HTTPRequest {
    /// Whether the client waits for a word before it sends the body.
    var asksBeforeBody: Bool {
        guard headerFields[.expect]?.lowercased() == "100-continue" else { return false }
        return headerFields.contains(.transferEncoding) || headerFields[.contentLength].flatMap(Int.init) ?? 0 > 0
    }
}

/// A body whose first reader has the client send it.
private struct InvitedBody: AsyncSequence, Sendable {
    let body: RequestBody
    let channel: any Channel

    struct AsyncIterator: AsyncIteratorProtocol {
        var pieces: RequestBody.AsyncIterator
        let channel: any Channel
        var isInvited = false

        mutating func next() async throws -> ByteBuffer? {
            if !isInvited {
                isInvited = true
                try await channel.writeAndFlush(HTTPResponsePart.head(HTTPResponse(status: .continue)))
            }
            return try await pieces.next()
        }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(pieces: body.makeAsyncIterator(), channel: channel) }
}

/// What the client of one connection was told of the body that it asks about: pure. A client that was refused before it sent any of
/// a body may send it all the same, or something else: what follows cannot be told apart, so that answer is the connection's last.
struct BodyInvitation {
    /// Requests whose answers have not ended; the last of them is the one that is asked about.
    private var answersDue = 0
    private var isAwaited = false

    mutating func headCame(asksBeforeBody: Bool) {
        answersDue += 1
        isAwaited = asksBeforeBody
    }

    /// The client does not wait, or no longer.
    mutating func bodyCame() { isAwaited = false }

    /// - Returns: whether the connection ends with this answer.
    mutating func answerBegins(isInterim: Bool) -> Bool {
        guard isAwaited, answersDue == 1 else { return false }
        isAwaited = false
        return !isInterim
    }

    mutating func answerEnded() { answersDue = max(0, answersDue - 1) }
}
