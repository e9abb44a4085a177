import ATProto
import Authorization
import EventLog
import HTTPTypes
import Hummingbird
import NIOCore

/// One method of the XRPC surface. The table of these is the whole surface: what is not in it does not exist.
struct XRPCMethod: Sendable {
    enum Kind: Sendable {
        /// GET with parameters.
        case query
        /// POST with a JSON body.
        case procedure
        /// POST with a CAR body, which the method reads itself.
        case upload
    }

    /// Whether the method may be called without a credential, by a person only, or by administrators only. A credential that is sent
    /// is always verified.
    enum Access: Sendable { case open, user, administrator }

    let id: NSID
    let kind: Kind
    let access: Access
    /// Brings other forms of the input that are in use into that of the lexicon, before it is checked.
    let normalize: @Sendable (Value) -> Value
    let handle: @Sendable (XRPCCall) async throws -> Response

    init(
        id: NSID, kind: Kind, access: Access, normalize: @escaping @Sendable (Value) -> Value = { $0 },
        handle: @escaping @Sendable (XRPCCall) async throws -> Response
    ) {
        self.id = id
        self.kind = kind
        self.access = access
        self.normalize = normalize
        self.handle = handle
    }
}

/// One call, authenticated and with its parameters and input in the types of the lexicon.
struct XRPCCall: Sendable {
    let method: NSID
    let request: Request
    /// Nil for a call without a credential.
    let proven: Proven?
    let parameters: Value
    /// The JSON input; `.null` for queries and uploads.
    let input: Value

    var caller: Caller { proven?.caller ?? .anonymous }

    /// The DID of a person who proved it.
    func user() throws -> DID {
        guard case .user(let did) = caller else { throw XRPCError.authenticationRequired("Authorization required") }
        return did
    }

    /// Who acts, as the log says it.
    func agent() throws -> Agent {
        switch proven?.caller {
        case .user(let did), .appView(let did): Agent(did: did, credential: proven?.credential ?? .system)
        case .administrator(let name): try Agent(administrator: name)
        case .anonymous, nil: throw XRPCError.authenticationRequired("Authorization required")
        }
    }

    /// A parameter that must be a DID; nil where it is a handle, which this release does not resolve.
    func did(_ parameter: String) -> DID? { parameters[parameter]?.stringValue.flatMap { try? DID($0) } }

    func collection() throws(XRPCError) -> NSID {
        do { return try NSID(parameters["collection"]?.stringValue ?? "") } catch { throw .invalidRequest("\(error)") }
    }

    /// The record that the parameters `collection` and `rkey` name.
    func path() throws(XRPCError) -> RecordPath {
        do {
            return RecordPath(collection: try collection(), recordKey: try RecordKey(parameters["rkey"]?.stringValue ?? ""))
        } catch let error as SyntaxError {
            throw .invalidRequest("\(error)")
        } catch let error as XRPCError {
            throw error
        } catch {
            throw .internalServerError
        }
    }

    /// The request as an idempotency key names it; nil where the client gave none.
    func client() throws(XRPCError) -> ClientRequest? {
        guard let key = request.headers[.idempotencyKey] else { return nil }
        do {
            return try ClientRequest(idempotencyKey: key, input: input, method: method)
        } catch {
            throw .invalidRequest("\(error)")
        }
    }
}

/// Finds the method of a request, checks its verb, credential, parameters and body in this order, and calls it.
struct XRPCDispatcher: Sendable {
    static let jsonBytesMax = 2 * 1024 * 1024

    let methods: [String: XRPCMethod]
    let lexicons: Lexicons
    let authentication: RequestAuthentication

    init(_ methods: [XRPCMethod], lexicons: Lexicons, authentication: RequestAuthentication) {
        self.methods = Dictionary(uniqueKeysWithValues: methods.map { ($0.id.description, $0) })
        self.lexicons = lexicons
        self.authentication = authentication
    }

    func dispatch(_ request: Request, id: String) async throws -> Response {
        guard (try? NSID(id)) != nil else { throw XRPCError.invalidRequest("invalid xrpc path") }
        guard let method = methods[id] else { throw XRPCError.methodNotImplemented }
        let expected: HTTPRequest.Method = method.kind == .query ? .get : .post
        let isExpected = request.method == expected || (expected == .get && request.method == .head)
        guard isExpected else { throw XRPCError.invalidRequest("Incorrect HTTP method (\(request.method)) expected \(expected)") }
        let proven = try await authentication.caller(of: request, method: method)
        if method.access == .user, proven == nil { throw XRPCError.authenticationRequired("Authorization required") }
        let parameters = try parameters(of: request, method: method)
        let input = method.kind == .procedure ? try await input(of: request, method: method) : .null
        return try await method.handle(
            XRPCCall(
                method: method.id, request: request, proven: proven, parameters: parameters, input: input))
    }

    private func parameters(of request: Request, method: XRPCMethod) throws -> Value {
        let given = request.uri.queryParameters.map { (String($0.key), String($0.value)) }
        do {
            return .map(try lexicons.coerceParameters(of: method.id, from: given))
        } catch {
            throw XRPCError.invalidRequest("\(error)")
        }
    }

    private func input(of request: Request, method: XRPCMethod) async throws -> Value {
        let bytes = try await body(of: request)
        guard !bytes.isEmpty else { throw XRPCError.invalidRequest("A request body is expected but none was provided") }
        guard let type = request.headers[.contentType] else {
            throw XRPCError.invalidRequest("Request encoding (Content-Type) required but not provided")
        }
        let mediaType = type.split(separator: ";").first?.trimmingPrefix(" ").lowercased() ?? ""
        guard mediaType.hasPrefix("application/json") else {
            throw XRPCError.invalidRequest("Wrong request encoding (Content-Type): \(mediaType)")
        }
        do {
            let value = method.normalize(try DataModelJSON.decode(bytes))
            try lexicons.validate(input: value, of: method.id)
            return value
        } catch let error as DataModelJSONError {
            throw XRPCError.invalidRequest("the body is not valid JSON of the data model: \(error)")
        } catch let error as LexiconError {
            throw XRPCError.invalidRequest("\(error)")
        }
    }

    private func body(of request: Request) async throws -> [UInt8] {
        if let length = request.headers[.contentLength].flatMap(Int.init), length > Self.jsonBytesMax { throw XRPCError.payloadTooLarge }
        var bytes: [UInt8] = []
        for try await chunk in request.body {
            guard bytes.count + chunk.readableBytes <= Self.jsonBytesMax else { throw XRPCError.payloadTooLarge }
            bytes.append(contentsOf: chunk.readableBytesView)
        }
        return bytes
    }
}
