import ATProto
import Authorization
import Engine
import Glibc
import NIOPosix

/// Where the demo takes place: a directory of identities and a PDS, the service, and a way to ask all of them. On loopback alone.
struct DemoWorld: Sendable {
    struct Person: Sendable {
        let name: String
        let did: DID
        let handle: String
        let password: String
    }

    let directory: String
    /// The service's.
    let url: String
    let plcURL: String
    let pdsURL: String
    let people: [Person]
    private let outbound: Outbound

    init(directory: String, url: String, devnet: ChildProgram, names: [String], outbound: Outbound) throws {
        let servers = try DataModelJSON.decode(devnet.line())
        guard let plc = servers["plc"]?.stringValue, let pds = servers["pds"]?.stringValue else { throw Self.unexpected("stratos-devnet") }
        people = try names.map { name in
            let account = try DataModelJSON.decode(devnet.line())
            guard let did = account["did"]?.stringValue, let handle = account["handle"]?.stringValue,
                let password = account["password"]?.stringValue
            else { throw Self.unexpected("stratos-devnet") }
            return Person(name: name, did: try DID(did), handle: handle, password: password)
        }
        self.directory = directory
        self.url = url
        self.outbound = outbound
        plcURL = plc
        pdsURL = pds
    }

    static func unexpected(_ who: String, _ what: String = "") -> Problem {
        Problem(
            status: .inputOutput, error: "DemoFailed",
            message: "\(who) answered what the demo does not expect" + (what.isEmpty ? "" : ": \(what)"))
    }

    struct Answer {
        let status: Int
        let contentType: String?
        let bytes: [UInt8]
        let location: String?
        let cookie: String?

        /// The body where it is JSON.
        var json: Value? { try? DataModelJSON.decodePlain(bytes) }
    }

    func get(_ url: String, headers: [String: String] = [:], accept: String = "application/json") async throws -> Answer {
        try await send(OutboundRequest(url: url, accept: accept, headers: headers, bytesMax: 4 << 20, timeout: .seconds(30)))
    }

    func post(_ url: String, _ body: Value, headers: [String: String] = [:]) async throws -> Answer {
        try await send(
            OutboundRequest(
                posting: .init(contentType: "application/json", bytes: DataModelJSON.encode(body)), to: url, accept: "application/json",
                headers: headers, isRepeatable: false, bytesMax: 4 << 20, timeout: .seconds(30)))
    }

    private func send(_ request: OutboundRequest) async throws -> Answer {
        do throws(OutboundError) {
            let response = try await outbound.send(request)
            return Answer(
                status: response.status, contentType: response.contentType, bytes: response.body, location: response.headers.location,
                cookie: response.headers.cookie)
        } catch {
            throw Problem(status: .inputOutput, error: "DemoFailed", message: "\(request.method.rawValue) \(request.url): \(error)")
        }
    }

    /// Runs an operator's command in the running service, as `stratos` in another terminal would.
    func operate(_ command: OperatorCommand) async throws -> [Value] {
        let path = directory + "/stratos.sock"
        return try await NIOThreadPool.singleton.runIfActive {
            guard var client = try ControlClient(path: path) else {
                throw Problem(status: .inputOutput, error: "DemoFailed", message: "the service does not listen at \(path)")
            }
            var values: [Value] = []
            try client.perform(command) { if case .object(let value) = $0 { values.append(value) } }
            return values
        }
    }

    /// Until the service answers.
    func awaitService() async throws {
        for _ in 0..<600 {
            if let answer = try? await get(url + "/health"), answer.status == 200 { return }
            try await Task.sleep(for: .milliseconds(50))
        }
        throw Problem(status: .inputOutput, error: "DemoFailed", message: "\(url)/health did not answer within 30 s")
    }
}
