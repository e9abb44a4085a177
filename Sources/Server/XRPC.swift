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

        /// Of the body; nil where none is expected.
        var mediaType: String? {
            switch self {
            case .query: nil
            case .procedure: "application/json"
            case .upload: "application/vnd.ipld.car"
            }
        }
    }

    /// Whether the method may be called without a credential, by a person only, or by administrators only. A credential that is sent
    /// is always verified.
    enum Access: Sendable { case open, user, administrator }

    let id: NSID
    let kind: Kind
    let access: Access
    /// Whether a procedure without any input may come without a body and its type too.
    let bodyIsOptional: Bool
    /// Brings other forms of the input that are in use into that of the lexicon, before it is checked.
    let normalize: @Sendable (Value) -> Value
    let handle: @Sendable (XRPCCall) async throws -> Response

    init(
        id: NSID, kind: Kind, access: Access, bodyIsOptional: Bool = false, normalize: @escaping @Sendable (Value) -> Value = { $0 },
        handle: @escaping @Sendable (XRPCCall) async throws -> Response
    ) {
        self.id = id
        self.kind = kind
        self.access = access
        self.bodyIsOptional = bodyIsOptional
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

    /// The DID of a person who proved it; whoever else calls is refused.
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

    /// A parameter that must be a DID; nil where it is none.
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
    private let bodies = RequestBodies()

    init(_ methods: [XRPCMethod], lexicons: Lexicons, authentication: RequestAuthentication) {
        self.methods = Dictionary(uniqueKeysWithValues: methods.map { ($0.id.description, $0) })
        self.lexicons = lexicons
        self.authentication = authentication
    }

    func dispatch(_ request: Request, on channel: any Channel, id: String) async throws -> Response {
        guard let method = methods[id] else {
            throw (try? NSID(id)) == nil ? XRPCError.invalidRequest("invalid xrpc path") : .methodNotImplemented
        }
        let expected: HTTPRequest.Method = method.kind == .query ? .get : .post
        let isExpected = request.method == expected || (expected == .get && request.method == .head)
        guard isExpected else { throw XRPCError.invalidRequest("Incorrect HTTP method (\(request.method)) expected \(expected)") }
        let proven = try await authentication.caller(of: request, on: channel, method: method)
        if method.access == .user, !(proven?.caller.isUser ?? false) { throw XRPCError.authenticationRequired("Authorization required") }
        let parameters = try parameters(of: request, method: method)
        try checkBody(of: request, method: method)
        guard method.kind == .procedure else {
            return try await method.handle(call(method, request, proven, parameters, input: .null))
        }
        let length = request.headers[.contentLength].flatMap(Int.init)
        return try await bodies.read(request.body, of: proven?.caller, length: length, bytesMax: Self.jsonBytesMax) { bytes in
            try await method.handle(call(method, request, proven, parameters, input: try input(bytes, method: method)))
        }
    }

    private func call(_ method: XRPCMethod, _ request: Request, _ proven: Proven?, _ parameters: Value, input: Value) -> XRPCCall {
        XRPCCall(method: method.id, request: request, proven: proven, parameters: parameters, input: input)
    }

    private func parameters(of request: Request, method: XRPCMethod) throws -> Value {
        let given = try QueryString.pairs(in: request.uri.string)
        do {
            return .map(try lexicons.coerceParameters(of: method.id, from: given))
        } catch {
            throw XRPCError.invalidRequest("\(error)")
        }
    }

    /// What the headers say of the body, before any of it is read.
    private func checkBody(of request: Request, method: XRPCMethod) throws(XRPCError) {
        let length = request.headers[.contentLength].flatMap(Int.init)
        let hasBody = request.headers.contains(.transferEncoding) || (length ?? 0) > 0
        guard let expected = method.kind.mediaType else {
            guard !hasBody else { throw .invalidRequest("A request body was provided when none was expected") }
            return
        }
        guard hasBody || method.bodyIsOptional else { throw .invalidRequest("A request body is expected but none was provided") }
        guard hasBody || request.headers.contains(.contentType) else { return }
        guard let type = request.headers[.contentType] else {
            throw .invalidRequest("Request encoding (Content-Type) required but not provided")
        }
        let mediaType = type.prefix { $0 != ";" && $0 != "," && $0 != " " && $0 != "\t" }.lowercased()
        guard mediaType == expected else { throw .invalidRequest("Wrong request encoding (Content-Type): \(mediaType)") }
        if let coding = request.headers[.contentEncoding], coding.lowercased() != "identity" {
            throw XRPCError(.unsupportedMediaType, "InvalidRequest", "A request body is taken as it is, without a Content-Encoding")
        }
    }

    private func input(_ bytes: [UInt8], method: XRPCMethod) throws(XRPCError) -> Value {
        guard !bytes.isEmpty || method.bodyIsOptional else {
            throw .invalidRequest("A request body is expected but none was provided")
        }
        do {
            let value = method.normalize(bytes.isEmpty ? [:] : try DataModelJSON.decode(bytes))
            try lexicons.validate(input: value, of: method.id)
            return value
        } catch let error as DataModelJSONError {
            throw .invalidRequest("the body is not valid JSON of the data model: \(error)")
        } catch {
            throw .invalidRequest("\(error)")
        }
    }
}
