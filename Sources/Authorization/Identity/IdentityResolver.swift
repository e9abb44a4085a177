package import ATProto

/// From a DID to its document and from a handle to its DID, over the network, with caches. (atproto specs: DID, handle)
///
/// Everything asked for here is chosen by strangers: the DID by whoever sends a token, the host by whoever wrote the document. So
/// each request is bounded in time and size, each cache in number and bytes, and the addresses are the `Outbound`'s to refuse.
package final class IdentityResolver: Sendable {
    private let fetch: DocumentFetch
    private let directory: DocumentFetch
    private let plcURL: String
    private let allowsHTTP: Bool
    private let txt: @Sendable (String) async throws -> [String]
    private let documents: AnswerCache<DID, DIDDocument, IdentityError>
    private let handles: AnswerCache<Handle, DID, IdentityError>

    /// - Parameters:
    ///   - directory: the way to the directory of did:plc, if it has one of its own: then hosts that strangers name and that never
    ///     answer cannot take all places from it, and an address that only the directory may have is open to nobody else.
    ///   - plcURL: of that directory; the operator's own choice, and not judged here.
    ///   - allowsHTTP: lets `did:web:localhost` be, with a port or without, over plain HTTP; also handles below `.test`. For
    ///     development and tests.
    ///   - now: microseconds.
    ///   - txt: the TXT records of a name, each as one string; none is an empty list, and no answer an error.
    package init(
        outbound: Outbound, directory: Outbound? = nil, plcURL: String, allowsHTTP: Bool, now: @escaping @Sendable () -> Int64,
        txt: @escaping @Sendable (String) async throws -> [String], limits: ResolutionLimits = ResolutionLimits()
    ) {
        fetch = DocumentFetch(outbound: outbound, limits: limits, now: now)
        self.directory = DocumentFetch(outbound: directory ?? outbound, limits: limits, now: now)
        self.plcURL = plcURL.hasSuffix("/") ? String(plcURL.dropLast()) : plcURL
        self.allowsHTTP = allowsHTTP
        self.txt = txt
        documents = AnswerCache(rules: limits.identityRules, now: now)
        handles = AnswerCache(rules: limits.identityRules, now: now)
    }

    /// - Parameter refresh: asks again though an answer is cached: for a caller whose signature did not verify, because the key may
    ///   be new. Of one DID at most once in ten seconds; within them the cached answer is given.
    package func document(of did: DID, refresh: Bool = false) async throws(IdentityError) -> DIDDocument {
        try await document(of: did, refresh: refresh, until: newDeadline())
    }

    /// A DNS TXT record `did=…` of `_atproto.<handle>` first, and where there is none the line at `/.well-known/atproto-did`.
    ///
    /// This is what the handle says. Whether the DID agrees, `account(named:)` finds out.
    package func did(of handle: Handle) async throws(IdentityError) -> DID {
        try await did(of: handle, until: newDeadline())
    }

    func newDeadline() -> Int64 { fetch.limits.deadline(from: fetch.now()) }

    func document(of did: DID, refresh: Bool, until deadline: Int64) async throws(IdentityError) -> DIDDocument {
        let url = try documentURL(of: did)
        return try await documents.value(for: did, refresh: refresh) { [fetch = did.method == "plc" ? directory : fetch] in
            do throws(DocumentFetch.Failure) {
                let document = try await fetch.json(url, accept: "application/did+ld+json, application/json", until: deadline)
                do throws(IdentityError) {
                    // Its text is kept beside what is read in it.
                    return .success(.init(value: try DIDDocument(document.json, of: did), bytes: 2 * document.bytes))
                } catch {
                    return .failure(error)
                }
            } catch {
                return .failure(IdentityError(error))
            }
        }
    }

    private func documentURL(of did: DID) throws(IdentityError) -> String {
        switch did.method {
        case "plc":
            let characters = did.identifier.utf8
            let isBase32 = characters.allSatisfy {
                UInt8(ascii: "a")...UInt8(ascii: "z") ~= $0 || UInt8(ascii: "2")...UInt8(ascii: "7") ~= $0
            }
            guard characters.count == 24, isBase32 else { throw .malformed("a did:plc has 24 characters of a-z and 2-7") }
            return plcURL + "/" + did.description
        case "web": return try webOrigin(of: did.identifier) + "/.well-known/did.json"
        default: throw .unsupportedMethod
        }
    }

    /// The protocol takes host names alone: no paths, and a port, written `%3A`, only behind localhost.
    private func webOrigin(of identifier: String) throws(IdentityError) -> String {
        if identifier == "localhost" || identifier.hasPrefix("localhost%3A") {
            let port = identifier.dropFirst("localhost%3A".count)
            guard allowsHTTP, let origin = WebOrigin("http://localhost" + (identifier == "localhost" ? "" : ":" + port)) else {
                throw .unsupportedMethod
            }
            return origin.description
        }
        guard let host = try? Handle(identifier), !isReserved(host) else { throw .unsupportedMethod }
        return "https://" + host.normalized.description
    }

    func did(of handle: Handle, until deadline: Int64) async throws(IdentityError) -> DID {
        let handle = handle.normalized
        guard !isReserved(handle) else { throw .notFound }
        return try await handles.value(for: handle) { [self] in
            do throws(IdentityError) {
                let did = try await ask(handle, until: deadline)
                return .success(.init(value: did, bytes: did.description.utf8.count))
            } catch {
                return .failure(error)
            }
        }
    }

    private func ask(_ handle: Handle, until deadline: Int64) async throws(IdentityError) -> DID {
        let records: [String]?
        // best effort: where DNS cannot be asked the other way may be open; if it is not, that is what is reported.
        do { records = try await txt("_atproto." + handle.description) } catch { records = nil }
        let named = (records ?? []).filter { $0.utf8.starts(with: "did=".utf8) }
        guard named.count <= 1 else { throw .malformed("several TXT records name a DID for the handle") }
        if let record = named.first { return try Self.did(String(Substring(record.utf8.dropFirst(4)))) }
        let line: String
        do throws(DocumentFetch.Failure) {
            line = try await fetch.line("https://\(handle)/.well-known/atproto-did", until: deadline)
        } catch {
            if error == .absent, records == nil { throw .unreachable("DNS gave no answer, and the handle's host names no DID") }
            throw IdentityError(error)
        }
        return try Self.did(line)
    }

    private static func did(_ text: String) throws(IdentityError) -> DID {
        do throws(SyntaxError) { return try DID(text) } catch { throw .malformed("what the handle names is no DID") }
    }

    /// Names that mean something else on every network, or nothing: nobody can prove one. (atproto spec: handle)
    private func isReserved(_ host: Handle) -> Bool {
        let last = host.normalized.description.split(separator: ".").last.map(String.init) ?? ""
        if last == "test" { return !allowsHTTP }
        return ["alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion"].contains(last)
    }
}
