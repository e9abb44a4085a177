/// A GET to somebody else's server, which may be slow, hostile, or not what its name says.
package struct OutboundRequest: Hashable, Sendable {
    /// Absolute, `http` or `https`, ASCII, with no user and no password in it.
    package let url: String
    /// The media types asked for, as the `Accept` header has them.
    package let accept: String
    /// A longer body is refused, however it is sent.
    package let bytesMax: Int
    /// From now to the last byte, waiting in the queue and looking up the name included.
    package let timeout: Duration

    package init(url: String, accept: String, bytesMax: Int, timeout: Duration) {
        self.url = url
        self.accept = accept
        self.bytesMax = bytesMax
        self.timeout = timeout
    }
}

/// What the server answered, whatever its status: a redirect is an answer, and nobody follows it.
package struct OutboundResponse: Hashable, Sendable {
    package let status: Int
    /// The `Content-Type` header as it came; nil when there was none.
    package let contentType: String?
    /// At most the request's `bytesMax`; as it was sent, never decompressed.
    package let body: [UInt8]

    package init(status: Int, contentType: String?, body: [UInt8]) {
        self.status = status
        self.contentType = contentType
        self.body = body
    }
}

/// Why there is no response.
package enum OutboundError: Error, Equatable {
    /// Not an absolute http or https URL, or one with a user in it: asking again is pointless.
    case invalidURL
    /// The name stands for addresses that the filter does not admit, and for no other.
    case refusedAddress
    case timedOut
    /// The body has more than `max` bytes, or the headers have.
    case tooLarge(max: Int)
    /// No connection, no trust in the certificate, or no HTTP; the reason is libcurl's and holds nothing that the server sent.
    case unreachable(String)
    /// Too many requests wait already: answer 503 and let the caller come again.
    case overloaded
    /// The service is stopping.
    case closed
}

/// The way out to other servers. Tests give a closure; the program gives `OutboundClient.outbound`.
package struct Outbound: Sendable {
    package let get: @Sendable (OutboundRequest) async throws(OutboundError) -> OutboundResponse

    package init(get: @escaping @Sendable (OutboundRequest) async throws(OutboundError) -> OutboundResponse) {
        self.get = get
    }
}
