internal import ATProto

/// One GET of a text or a JSON document from a server that nobody vouches for, judged the same way for all of them.
///
/// Only status 200 is an answer: a redirect is none, because the place that a document stands at is part of what it proves. JSON
/// must say that it is JSON, `application/json` or any `application/…+json`: a server that sends something else under the name of
/// a document is misconfigured, or is an upload of one of its users. And it is parsed strictly, each key once.
struct DocumentFetch: Sendable {
    let outbound: Outbound
    let limits: ResolutionLimits
    let now: @Sendable () -> Int64

    enum Failure: Error, Equatable {
        /// 404 or 410.
        case absent
        case malformed(String)
        case unreachable(String)
        case overloaded
    }

    struct Document: Sendable {
        let json: Value
        let bytes: Int
    }

    /// - Parameter deadline: when the chain that this is part of must have ended.
    func json(_ url: String, accept: String = "application/json", until deadline: Int64) async throws(Failure) -> Document {
        let response = try await get(url, accept: accept, bytesMax: limits.documentBytesMax, until: deadline)
        guard let type = response.contentType, Self.isJSON(type) else { throw .malformed("what should be JSON has another content type") }
        do throws(DataModelJSONError) {
            return Document(json: try DataModelJSON.decodePlain(response.body, limits: Self.jsonLimits), bytes: response.body.count)
        } catch {
            throw .malformed(error.description)
        }
    }

    /// A line of text with white space around it; of any content type, because the line itself is checked for what it must be.
    func line(_ url: String, until deadline: Int64) async throws(Failure) -> String {
        let response = try await get(url, accept: "text/plain", bytesMax: limits.wellKnownBytesMax, until: deadline)
        let blanks: Set<UInt8> = [0x20, 0x09, 0x0A, 0x0D]
        var line = response.body[...]
        while let last = line.last, blanks.contains(last) { line.removeLast() }
        line = line.drop { blanks.contains($0) }
        guard let text = String(validating: line, as: UTF8.self) else { throw .malformed("the text is not UTF-8") }
        return text
    }

    private func get(_ url: String, accept: String, bytesMax: Int, until deadline: Int64) async throws(Failure) -> OutboundResponse {
        let left = Duration.microseconds(deadline - now())
        guard left > .zero else { throw .unreachable("the servers that had to be asked took too long together") }
        let request = OutboundRequest(url: url, accept: accept, bytesMax: bytesMax, timeout: min(left, limits.requestTimeout))
        let response: OutboundResponse
        do throws(OutboundError) { response = try await outbound.send(request) } catch { throw Failure(error) }
        switch response.status {
        case 200: return response
        case 404, 410: throw .absent
        default: throw .unreachable("the server answered with status \(response.status)")
        }
    }

    private static let jsonLimits = DecodingLimits(bytesMax: 1 << 20, depthMax: 16, countMax: 4096, keyBytesMax: 512)

    static func isJSON(_ contentType: String) -> Bool {
        let essence = contentType.utf8.prefix { $0 != UInt8(ascii: ";") }
        let type = String(decoding: essence, as: UTF8.self).lowercased().split(separator: " ", omittingEmptySubsequences: true)
        guard type.count == 1 else { return false }
        return type[0] == "application/json" || (type[0].hasPrefix("application/") && type[0].hasSuffix("+json"))
    }
}

extension DocumentFetch.Failure {
    fileprivate init(_ error: OutboundError) {
        switch error {
        case .invalidURL: self = .malformed("not a URL that can be fetched")
        case .tooLarge(let max): self = .malformed("more than \(max) bytes")
        case .refusedAddress: self = .unreachable("the host has no address that may be connected to")
        case .timedOut: self = .unreachable("no answer in time")
        case .unreachable(let reason): self = .unreachable(reason)
        case .overloaded: self = .overloaded
        case .closed: self = .unreachable("the service is stopping")
        }
    }
}

extension IdentityError {
    init(_ failure: DocumentFetch.Failure) {
        switch failure {
        case .absent: self = .notFound
        case .malformed(let reason): self = .malformed(reason)
        case .unreachable(let reason): self = .unreachable(reason)
        case .overloaded: self = .overloaded
        }
    }
}

extension IssuerError {
    init(_ failure: DocumentFetch.Failure) {
        switch failure {
        case .absent: self = .malformed("the server has no document where its metadata should be")
        case .malformed(let reason): self = .malformed(reason)
        case .unreachable(let reason): self = .unreachable(reason)
        case .overloaded: self = .overloaded
        }
    }
}
