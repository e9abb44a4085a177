import ATProto
import HTTPTypes
import Simulation
import Testing

/// I12: what a caller may not read looks like what is not there, on every route, to the last header.
///
/// Two services are asked the same. They differ in one record alone, which in one of them was never there; whoever may not see it
/// must not be able to tell them apart.
@Suite("HTTP: who may see what")
struct LeakMatrixTests {
    @Test("every route has a row in the matrix, and every row a route")
    func complete() async throws {
        let routes = try await Service().routeNames
        let rows = MatrixRow.all.map(\.route)
        #expect(routes.subtracting(rows).isEmpty, "without a row")
        #expect(Set(rows).subtracting(routes).isEmpty, "without a route")
        #expect(Set(rows).count == rows.count, "twice in the matrix")
        #expect(routes.count > 30, "\(routes)")
    }

    @Test(
        "every route × every caller: the record is shown to whoever may see it, and is absent to everybody else (I12)",
        arguments: RecordState.allCases)
    func matrix(state: RecordState) async throws {
        let world = try await LeakWorld(state)
        // What became of the owner is the same in both.
        let empty = try await LeakWorld(state, hasSecret: false)
        var cells: [String: Int] = [:]
        for caller in MatrixCaller.allCases {
            let place = MatrixPlace(caller: caller, cid: world.cid, ownersRepoIsEmpty: state == .ownerBackErased)
            for row in MatrixRow.all {
                let cell = row.rule.cell(caller, state)
                // Two services without the record have nothing to be told apart by: what they say is looked at all the same.
                for probe in row.probes(place) where state != .absent || probe.expected != nil {
                    let trial = Trial(row: row, probe: probe, place: place, cell: cell, state: state)
                    try await trial.run(in: world, beside: empty)
                    cells["\(cell)", default: 0] += 1
                }
            }
        }
        #expect(cells["hidden", default: 0] > (state == .absent ? 200 : 900), "\(cells)")
        if state.exists { #expect(cells["shown", default: 0] > 20, "\(cells)") }
    }
}

/// One cell of the matrix, with one probe.
private struct Trial {
    let row: MatrixRow
    let probe: Probe
    let place: MatrixPlace
    let cell: Cell
    let state: RecordState

    private var caller: MatrixCaller { place.caller }
    private var name: Comment { "\(probe.verb) \(probe.name) as \(caller), \(state), seed \(TestFiles.seed)" }

    func run(in world: LeakWorld, beside empty: LeakWorld) async throws {
        let answer = try await world.ask(probe, as: caller)
        // Also where it is not looked at, so that the two services go on alike.
        let absent = try await empty.ask(probe, as: caller)
        let refusal = row.opening.refusal(of: caller, state)
        if let refusal, probe.expected != nil || probe.name.hasSuffix("nothing given") { expect(answer, refusal) }
        switch cell {
        case .hidden:
            #expect(answer.comparable == absent.comparable, name)
            expectNothing(in: answer)
            if refusal == nil, let expected = probe.expected { expect(answer, expected) }
            if probe.namesOnePlace { try await expectTheSameElsewhere(answer, in: world, beside: empty) }
            if state.ownerHasLeft, caller != .owner, !row.rule.isBlind, !row.changesCaller {
                try await expectTheSameOfNobody(answer, in: world, beside: empty)
            }
        case .noRepo:
            expectNothing(in: answer)
            var nowhere = place
            nowhere.owner = LeakWorld.nobody
            guard let same = row.probes(nowhere).first(where: { $0.name == probe.name.replacing(place.owner, with: nowhere.owner) }) else {
                Issue.record("no such probe of nobody's repo: \(name)")
                return
            }
            let nobody = try await world.ask(same, as: caller)
            _ = try await empty.ask(same, as: caller)
            #expect(answer.comparable == nobody.comparable, name)
        case .shown where probe.shows:
            #expect(answer.status == 200, name)
            #expect(answer.comparable != absent.comparable, name)
            if row.route != "com.atproto.sync.getLatestCommit" {
                #expect(answer.text.contains(row.rule.isOfCollections ? LeakWorld.hiddenCollection : LeakWorld.text), name)
            }
        case .without where probe.shows:
            #expect(answer.status == 200, name)
            expectNothing(in: answer)
        case .shown, .without, .free: break
        }
    }

    /// A place where nothing ever was gives the same answer, but for the place that the caller named.
    private func expectTheSameElsewhere(_ answer: Answer, in world: LeakWorld, beside empty: LeakWorld) async throws {
        var elsewhere = probe
        elsewhere.target = probe.target.replacing(LeakWorld.key, with: LeakWorld.emptyKey)
        let other = try await world.ask(elsewhere, as: caller)
        _ = try await empty.ask(elsewhere, as: caller)
        #expect(other.status == answer.status && other.comparable.headers == answer.comparable.headers, name)
        #expect(other.text.replacing(LeakWorld.emptyKey, with: LeakWorld.key) == answer.text, name)
    }

    /// An account that nobody has gives the same answer, but for the name of the account.
    private func expectTheSameOfNobody(_ answer: Answer, in world: LeakWorld, beside empty: LeakWorld) async throws {
        var nowhere = place
        nowhere.owner = LeakWorld.nobody
        let own = row.probes(place)
        guard let index = own.firstIndex(where: { $0.name == probe.name }) else {
            Issue.record("no such probe: \(name)")
            return
        }
        let same = row.probes(nowhere)[index]
        let nobody = try await world.ask(same, as: caller)
        _ = try await empty.ask(same, as: caller)
        #expect(answer.status == nobody.status && answer.comparable.headers == nobody.comparable.headers, name)
        // Some probes name the owner whatever the place is.
        let texts = [answer, nobody].map { $0.text.replacing(LeakWorld.owner, with: LeakWorld.nobody) }
        #expect(texts[0] == texts[1], name)
    }

    /// Nothing of the record, but for what the caller said.
    private func expectNothing(in answer: Answer) {
        let said = probe.target + String(decoding: probe.body ?? [], as: UTF8.self)
        let text = answer.text + answer.headers.map(\.value).joined(separator: " ")
        for secret in [LeakWorld.text, place.cid, LeakWorld.key, LeakWorld.hiddenCollection] where !said.contains(secret) {
            #expect(!text.contains(secret), name)
        }
    }

    private func expect(_ answer: Answer, _ expected: ExpectedAnswer) {
        #expect(answer.status == expected.status, "\(name): \(answer.text)")
        if probe.verb != .head { #expect(answer["error"]?.stringValue == expected.error, "\(name): \(answer.text)") }
    }
}

extension LeakRule {
    fileprivate var isOfCollections: Bool { if case .account = self { true } else { false } }
}
