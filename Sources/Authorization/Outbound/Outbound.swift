/// A request to somebody else's server, which may be slow, hostile, or not what its name says.
package struct OutboundRequest: Hashable, Sendable {
    package enum Method: String, Sendable {
        case get = "GET"
        case post = "POST"
    }

    /// What a POST carries.
    package struct Body: Hashable, Sendable {
        package let contentType: String
        package let bytes: [UInt8]

        package init(contentType: String, bytes: [UInt8]) {
            self.contentType = contentType
            self.bytes = bytes
        }
    }

    package let method: Method
    /// Absolute, `http` or `https`, ASCII, with no user and no password in it.
    package let url: String
    /// The media types asked for, as the `Accept` header has them.
    package let accept: String
    /// Further header fields by name. Printable ASCII; what is none of that refuses the request.
    package let headers: [String: String]
    package let body: Body?
    /// Whether the server may get the request a second time where it closed a kept connection before it answered. A grant that can be
    /// used once is sent over a connection of its own.
    package let isRepeatable: Bool
    /// A longer body of the answer is refused, however it is sent.
    package let bytesMax: Int
    /// From now to the last byte, waiting in the queue and looking up the name included.
    package let timeout: Duration

    package init(url: String, accept: String, headers: [String: String] = [:], bytesMax: Int, timeout: Duration) {
        method = .get
        self.url = url
        self.accept = accept
        self.headers = headers
        body = nil
        isRepeatable = true
        self.bytesMax = bytesMax
        self.timeout = timeout
    }

    package init(
        posting body: Body, to url: String, accept: String, headers: [String: String], isRepeatable: Bool, bytesMax: Int, timeout: Duration
    ) {
        method = .post
        self.url = url
        self.accept = accept
        self.headers = headers
        self.body = body
        self.isRepeatable = isRepeatable
        self.bytesMax = bytesMax
        self.timeout = timeout
    }
}

/// What the server answered, whatever its status: a redirect is an answer, and nobody follows it.
package struct OutboundResponse: Hashable, Sendable {
    /// The header fields that somebody here reads, each as it came, the last where there are several; no others are kept.
    package struct Headers: Hashable, Sendable {
        /// `DPoP-Nonce` (RFC 9449, section 8).
        package var nonce: String?
        /// `WWW-Authenticate`.
        package var challenge: String?
        /// `Retry-After`.
        package var retryAfter: String?
        /// `Location`; nothing here goes there by itself.
        package var location: String?
        /// `Set-Cookie`; nothing here sends it back by itself.
        package var cookie: String?

        package init(nonce: String? = nil, challenge: String? = nil, retryAfter: String? = nil) {
            self.nonce = nonce
            self.challenge = challenge
            self.retryAfter = retryAfter
        }
    }

    package let status: Int
    /// The `Content-Type` header as it came; nil when there was none.
    package let contentType: String?
    package let headers: Headers
    /// At most the request's `bytesMax`; as it was sent, never decompressed.
    package let body: [UInt8]

    package init(status: Int, contentType: String?, headers: Headers = Headers(), body: [UInt8]) {
        self.status = status
        self.contentType = contentType
        self.headers = headers
        self.body = body
    }
}

/// Why there is no response.
package enum OutboundError: Error, Equatable {
    /// Not an absolute http or https URL, or one with a user in it, or a header that is none: asking again is pointless.
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
    package let send: @Sendable (OutboundRequest) async throws(OutboundError) -> OutboundResponse

    package init(send: @escaping @Sendable (OutboundRequest) async throws(OutboundError) -> OutboundResponse) {
        self.send = send
    }
}
