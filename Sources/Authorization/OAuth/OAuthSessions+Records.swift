internal import ATProto

/// Records on the accounts' own servers, by the sessions that they gave.
extension OAuthSessions {
    package var records: PDSRecords {
        PDSRecords(
            put: { [self] value, collection, key, account async throws(PDSError) in
                let answer = try await call(
                    .post("com.atproto.repo.putRecord", Self.address(account, collection, key, and: ("record", value))), of: account)
                guard let cid = answer["cid"]?.stringValue.flatMap({ try? CID($0) }) else { throw Self.malformed }
                return cid
            },
            delete: { [self] collection, key, account async throws(PDSError) in
                do throws(PDSError) {
                    _ = try await call(.post("com.atproto.repo.deleteRecord", Self.address(account, collection, key)), of: account)
                } catch .refused(_, "RecordNotFound") {
                    // As it should be.
                }
            },
            list: { [self] collection, account async throws(PDSError) in
                let fields = [("repo", account.description), ("collection", collection.description), ("limit", "100")]
                let answer = try await call(.get("com.atproto.repo.listRecords", fields), of: account)
                guard let records = answer["records"]?.arrayValue else { throw Self.malformed }
                return try records.map { value throws(PDSError) in try Self.record(value, in: collection, of: account) }
            })
    }

    private enum Call {
        case get(String, [(String, String)])
        case post(String, Value)
    }

    private static let malformed = PDSError.unavailable(reason: "the server's answer is not what was asked for")
    private static let timeout: Duration = .seconds(10)
    /// A hundred records.
    private static let bytesMax = 2 << 20
    private static let limits = DecodingLimits(bytesMax: bytesMax, depthMax: 40, countMax: 100_000, keyBytesMax: 4096)

    private static func address(_ account: DID, _ collection: NSID, _ key: RecordKey, and further: (String, Value)? = nil) -> Value {
        var fields: ValueMap = [
            "repo": .string(account.description), "collection": .string(collection.description), "rkey": .string(key.description),
        ]
        if let (name, value) = further { fields[name] = value }
        return .map(fields)
    }

    private static func record(_ value: Value, in collection: NSID, of account: DID) throws(PDSError) -> PDSRecord {
        let prefix = "at://\(account)/\(collection)/"
        guard let uri = value["uri"]?.stringValue, uri.hasPrefix(prefix), let key = try? RecordKey(String(uri.dropFirst(prefix.count))),
            let cid = value["cid"]?.stringValue.flatMap({ try? CID($0) }), let content = value["value"]
        else { throw malformed }
        return PDSRecord(key: key, cid: cid, value: content)
    }

    /// Asks the account's server; once more where it wants its nonce, and once more with another access token where it takes the first
    /// no longer.
    private func call(_ call: Call, of account: DID) async throws(PDSError) -> Value {
        let session = try await usable(account)
        let response = try await ask(call, session)
        guard Self.isOfToken(response) else { return try Self.value(of: response) }
        return try Self.value(of: try await ask(call, try await refreshed(session)))
    }

    private func ask(_ call: Call, _ session: OAuthSession) async throws(PDSError) -> OutboundResponse {
        let response = try await send(call, session)
        guard response.status == 401, response.headers.nonce != nil, Self.error(of: response) == "use_dpop_nonce" else { return response }
        return try await send(call, session)
    }

    private func send(_ call: Call, _ session: OAuthSession) async throws(PDSError) -> OutboundResponse {
        let proofs = endpoints.proofs
        func headers(_ method: OutboundRequest.Method, _ url: String) -> [String: String] {
            [
                "Authorization": "DPoP \(session.accessToken)",
                "DPoP": proofs.proof(method: method, url: url, accessToken: session.accessToken, key: session.key),
            ]
        }
        let request: OutboundRequest
        switch call {
        case .get(let method, let fields):
            let url = FormEncoding.appending(fields, to: "\(session.account.pds)/xrpc/\(method)")
            request = OutboundRequest(
                url: url, accept: "application/json", headers: headers(.get, url), bytesMax: Self.bytesMax, timeout: Self.timeout)
        case .post(let method, let input):
            let url = "\(session.account.pds)/xrpc/\(method)"
            request = OutboundRequest(
                posting: .init(contentType: "application/json", bytes: DataModelJSON.encode(input)), to: url, accept: "application/json",
                headers: headers(.post, url), isRepeatable: true, bytesMax: Self.bytesMax, timeout: Self.timeout)
        }
        do throws(OutboundError) {
            let response = try await endpoints.outbound.send(request)
            proofs.nonces.note(response.headers.nonce, from: request.url)
            return response
        } catch {
            throw .unavailable(reason: error.reason)
        }
    }

    /// What a refusal says of itself: in its challenge (RFC 9449, section 9), or in its body.
    private static func error(of response: OutboundResponse) -> String? {
        if let challenge = response.headers.challenge, let start = challenge.firstRange(of: "error=\"") {
            return String(challenge[start.upperBound...].prefix { $0 != "\"" })
        }
        return json(response)?["error"]?.stringValue
    }

    private static func isOfToken(_ response: OutboundResponse) -> Bool {
        response.status == 401 && ["invalid_token", "InvalidToken", "ExpiredToken"].contains(error(of: response))
    }

    private static func value(of response: OutboundResponse) throws(PDSError) -> Value {
        switch response.status {
        case 200...299:
            guard let value = json(response) else { throw malformed }
            return value
        case 408, 429, 500...:
            throw .unavailable(reason: "the server answered with status \(response.status)", after: RetryAfter.duration(response))
        default: throw .refused(status: response.status, name: name(of: response))
        }
    }

    /// The error's name, where it is one.
    private static func name(of response: OutboundResponse) -> String {
        guard let name = json(response)?["error"]?.stringValue, 1...64 ~= name.utf8.count,
            name.utf8.allSatisfy({ 0x30...0x7A ~= $0 })
        else { return "unnamed" }
        return name
    }

    private static func json(_ response: OutboundResponse) -> Value? {
        guard let type = response.contentType, DocumentFetch.isJSON(type) else { return nil }
        return try? DataModelJSON.decode(response.body, limits: limits)
    }
}
