@testable import Client
import ATProto
import Authorization
import EventLog
import Keys
import Synchronization

/// One account, its PDS and its service, as documents at URLs: the whole Internet of a test.
final class ClientWorld: Sendable {
    static let account = StreamSample.account
    static let service = try! DID("did:web:stratos.example.com")
    static let serviceURL = "https://stratos.example.com"
    static let boundaries = ["did:web:stratos.example.com/general", "did:web:stratos.example.com/writers"]

    let serviceKey = PrivateKey.generate(.k256)
    let userKey = PrivateKey.generate(.p256)
    private let pages = Mutex<[String: OutboundResponse]>([:])
    private let asked = Mutex<[OutboundRequest]>([])

    init() {
        set(
            "https://plc.directory/\(Self.account)",
            document(Self.account, keys: [:], services: [("atproto_pds", "AtprotoPersonalDataServer", "https://pds.example.com")]))
        setService()
    }

    var client: StratosClient {
        StratosClient(
            ClientConfiguration(),
            outbound: Outbound { [self] request async throws(OutboundError) in
                asked.withLock { $0.append(request) }
                return pages.withLock { $0[request.url] } ?? OutboundResponse(status: 404, contentType: nil, body: [])
            })
    }

    var requests: [OutboundRequest] { asked.withLock { $0 } }

    func set(_ url: String, _ value: Value, status: Int = 200, type: String = "application/json") {
        set(url, DataModelJSON.encode(value), status: status, type: type)
    }

    func set(_ url: String, _ body: [UInt8], status: Int = 200, type: String) {
        pages.withLock { $0[url] = OutboundResponse(status: status, contentType: type, body: body) }
    }

    /// The service's document: its key under each of these names.
    func setService(
        fragments: [String] = ["atproto_pns", "atproto"], key: PrivateKey? = nil, endpoint: String = ClientWorld.serviceURL
    ) {
        let key = (key ?? serviceKey).publicKey
        set(
            "https://stratos.example.com/.well-known/did.json",
            document(
                Self.service, keys: Dictionary(uniqueKeysWithValues: fragments.map { ($0, key) }),
                services: [("stratos", "StratosService", endpoint)]))
    }

    private func document(_ did: DID, keys: [String: PublicKey], services: [(String, String, String)]) -> Value {
        [
            "id": .string(did.description),
            "verificationMethod": .array(
                keys.map { name, key in
                    [
                        "id": .string("\(did)#\(name)"), "type": "Multikey", "controller": .string(did.description),
                        "publicKeyMultibase": .string(key.multibase),
                    ]
                }),
            "service": .array(
                services.map { ["id": .string("#\($0.0)"), "type": .string($0.1), "serviceEndpoint": .string($0.2)] }),
        ]
    }

    /// The record as the service writes it.
    func record(boundaries: [String] = ClientWorld.boundaries, account: DID = ClientWorld.account) throws -> ValueMap {
        let attestation = try Attestation.sign(
            did: account, boundaries: try BoundarySet(boundaries), actorKey: userKey.publicKey, with: serviceKey)
        return [
            "service": .string(Self.serviceURL), "boundaries": .array(boundaries.map { ["value": .string($0)] }),
            "signingKey": .string(userKey.publicKey.didKey), "createdAt": "2026-01-01T00:00:00.000Z",
            "attestation": ["sig": .bytes(attestation.signature), "signingKey": .string(serviceKey.publicKey.didKey)],
        ]
    }

    /// What the PDS lists, each under its record key.
    func setRecords(_ records: [(key: String, value: Value)]) {
        set(
            "https://pds.example.com/xrpc/com.atproto.repo.listRecords?repo=did%3Aplc%3Aewvi7nxzyoun6zhxrhs64oiz"
                + "&collection=zone.stratos.actor.enrollment&limit=100",
            [
                "records": .array(
                    records.map {
                        ["uri": .string("at://\(Self.account)/zone.stratos.actor.enrollment/\($0.key)"), "cid": "bafy", "value": $0.value]
                    })
            ])
    }

    func enrollment(_ change: (inout ValueMap) -> Void = { _ in }) throws -> Enrollment {
        var record = try record()
        change(&record)
        return try Enrollment(.map(record), of: Self.account, key: try RecordKey(Self.service.description))
    }
}
