import ATProto
import Commands
import HTTPTypes
import Simulation
import Synchronization
import Testing

/// I12, beside the matrix of `LeakMatrixTests`: what it costs to refuse, and what a proof shows beside its record.
@Suite("HTTP: denied looks like absent")
struct DeniedReadsTests {
    @Test(
        "a denied read asks the log for what an absent one asks for, and never for a record (I12)",
        arguments: ["com.atproto.repo.getRecord", "com.atproto.sync.getRecord", "zone.stratos.repo.hydrateRecord"])
    func sameWork(method: String) async throws {
        let noted = ReadNotes()
        var settings = Service.Settings()
        settings.log = { store in FaultyEventStore(store, plan: { _ in nil }, note: { noted.add($0) }) }
        let service = try await Service(settings)
        try await service.write(Service.postRecord("secret", in: "writers"), at: "3lq2222222223")
        func work(_ rkey: String, as caller: String?) async throws -> [String] {
            let uri = "at://\(Service.alice)/\(Service.post)/\(rkey)"
            let path = [("collection", Service.post), ("rkey", rkey)]
            let parameters =
                switch method {
                case "com.atproto.repo.getRecord": [("repo", Service.alice)] + path
                case "com.atproto.sync.getRecord": [("did", Service.alice)] + path
                default: [("uri", uri)]
                }
            noted.clear()
            _ = try await service.get(method, parameters, as: caller)
            return noted.all
        }
        for caller in [Service.bob, Service.mallory, nil] as [String?] {
            let denied = try await work("3lq2222222223", as: caller)
            #expect(try await work("3lq2222222224", as: caller) == denied, "\(caller ?? "nobody")")
            #expect(!denied.contains("blocks"))
        }
        #expect(try await work("3lq2222222223", as: Service.alice).contains("blocks"), "whoever may read it is given it from the log")
    }

    @Test("a proof is for whoever may read every key that it names (I12)")
    func proofs() async throws {
        let service = try await Service()
        try await service.write(Service.postRecord("open", in: "general"), at: "3lq2222222222")
        let parameters = [("did", Service.alice), ("collection", Service.post), ("rkey", "3lq2222222222")]
        #expect(try await service.get("com.atproto.sync.getRecord", parameters, as: Service.bob).status == 200)
        try await service.write(Service.postRecord("secret", in: "writers"), at: "3lq2222222223")
        let hidden = try await service.get("com.atproto.sync.getRecord", parameters, as: Service.bob)
        let absent = try await service.get(
            "com.atproto.sync.getRecord", [("did", Service.alice), ("collection", Service.post), ("rkey", "3lq222222222z")], as: Service.bob
        )
        #expect(hidden.comparable == absent.comparable)
        #expect(try await service.get("com.atproto.sync.getRecord", parameters, as: Service.alice).status == 200)
    }
}

private final class ReadNotes: Sendable {
    private let notes = Mutex<[String]>([])

    var all: [String] { notes.withLock { $0 } }
    func add(_ note: String) { notes.withLock { $0.append(note) } }
    func clear() { notes.withLock { $0 = [] } }
}
