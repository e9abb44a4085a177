import ATProto
import Commands
import Testing

@Suite("Who may come in")
struct EnrollmentTermsTests {
    private let listed = SimulatedNames.listed
    private let stranger = SimulatedNames.stranger
    private let terms = { (mode: EnrollmentTerms.Mode) in
        EnrollmentTerms(mode: mode, dids: [SimulatedNames.listed], pdsOrigins: ["https://pds.example", "http://localhost:2583"])
    }

    private enum SimulatedNames {
        static let listed = named("did:plc:listedlistedlistedlisted")
        static let stranger = named("did:web:stranger.example")

        static func named(_ text: String) -> DID {
            guard let did = try? DID(text) else { preconditionFailure("\(text) is a DID") }
            return did
        }
    }

    @Test("an open service admits everybody, whatever server keeps the account")
    func open() {
        for pds in [nil, "https://pds.example", "https://other.example"] {
            #expect(terms(.open).admits(stranger, pds: pds))
            #expect(EnrollmentTerms(mode: .open).admits(stranger, pds: pds))
        }
    }

    @Test("a list admits by the DID or by the server, and either will do")
    func either() {
        #expect(terms(.allowlist).admits(listed, pds: nil))
        #expect(terms(.allowlist).admits(listed, pds: "https://other.example"))
        #expect(terms(.allowlist).admits(stranger, pds: "https://pds.example"))
        #expect(terms(.allowlist).admits(stranger, pds: "http://localhost:2583"))
    }

    @Test("a list admits nobody else: no neighbour of an origin, and without one nobody by it")
    func neither() {
        for pds in [
            nil, "", "https://other.example", "http://pds.example", "https://pds.example:444", "https://pds.example.other.example",
            "https://pds.example/path", "http://localhost",
        ] {
            #expect(!terms(.allowlist).admits(stranger, pds: pds), "\(pds ?? "none")")
        }
        #expect(!EnrollmentTerms(mode: .allowlist).admits(listed, pds: "https://pds.example"), "an empty list is a closed door")
    }
}
