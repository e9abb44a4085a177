import ATProto
import HTTPTypes
import HummingbirdTesting
import NIOCore
import Synchronization
import Testing

/// One request to a server on loopback, over a connection of its own.
enum HTTPCall {
    struct Answer: Sendable {
        let status: Int
        let headers: HTTPFields
        let bytes: [UInt8]

        var contentType: String { headers[.contentType] ?? "" }
        var text: String { String(decoding: bytes, as: UTF8.self) }

        var json: Value {
            get throws { try DataModelJSON.decodePlain(bytes) }
        }
    }

    /// - Parameter host: the `Host` header, if it is not the server's own.
    static func get(_ url: String, host: String? = nil, headers: HTTPFields = [:]) async throws -> Answer {
        try await send(.get, url, host: host, headers: headers, body: nil)
    }

    static func post(
        _ url: String, _ body: Value, contentType: String = "application/json", headers: HTTPFields = [:]
    ) async throws -> Answer {
        try await post(url, bytes: DataModelJSON.encode(body), contentType: contentType, headers: headers)
    }

    static func post(
        _ url: String, bytes: [UInt8], contentType: String = "application/json", headers: HTTPFields = [:]
    ) async throws -> Answer {
        var headers = headers
        headers[.contentType] = contentType
        return try await send(.post, url, host: nil, headers: headers, body: bytes)
    }

    /// A form, as browsers and OAuth clients send it. A field may come twice.
    static func post(_ url: String, form: [(String, String)], headers: HTTPFields = [:]) async throws -> Answer {
        let body = form.map { "\(escaped($0))=\(escaped($1))" }.joined(separator: "&")
        return try await post(url, bytes: Array(body.utf8), contentType: "application/x-www-form-urlencoded", headers: headers)
    }

    /// Every byte that is no letter, digit, hyphen or point is escaped, so that nothing depends on which must be.
    static func escaped(_ text: String) -> String {
        text.utf8.map { byte in
            let character = Character(Unicode.Scalar(byte))
            let isPlain = byte < 0x80 && (character.isLetter || character.isNumber || character == "-" || character == ".")
            return isPlain ? String(character) : (byte < 16 ? "%0" : "%") + String(byte, radix: 16)
        }.joined()
    }

    private static func send(
        _ method: HTTPRequest.Method, _ url: String, host: String?, headers: HTTPFields, body: [UInt8]?
    ) async throws -> Answer {
        let rest = try #require(url.hasPrefix("http://") ? url.dropFirst("http://".count) : nil, "\(url)")
        let authority = String(rest.prefix { $0 != "/" })
        let port = try #require(authority.split(separator: ":").last.flatMap { Int($0) }, "\(url)")
        let path = String(rest.dropFirst(authority.count))
        let request = TestClient.Request(
            path.isEmpty ? "/" : path, method: method, authority: host ?? authority, headers: headers,
            body: body.map { ByteBuffer(bytes: $0) })
        let response = try await TestClient.withClient(host: "127.0.0.1", port: port) { try await $0.execute(request) }
        return Answer(
            status: response.status.code, headers: response.headers, bytes: response.body.map { Array($0.readableBytesView) } ?? [])
    }
}

/// A clock that stands still until it is moved.
final class StoppedClock: Sendable {
    private let time: Mutex<Int64>

    /// - Parameter milliseconds: since 1970; without it, a moment in 2027 that is half a second past a whole one.
    init(milliseconds: Int64 = 1_800_000_000_500) { time = Mutex(milliseconds) }

    var milliseconds: Int64 {
        get { time.withLock { $0 } }
        set { time.withLock { $0 = newValue } }
    }

    /// Whole seconds, as tokens count them.
    var seconds: Int64 { milliseconds / 1000 }
}
