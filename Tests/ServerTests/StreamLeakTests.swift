import ATProto
import Engine
import Foundation
import Hummingbird
import HummingbirdTesting
import Simulation
import Testing

@testable import Authorization
@testable import Server

/// I12 for streams: the matrix of `LeakMatrixTests`, over what a subscriber is told. Whoever may not see a record must not be able to
/// tell a service that has it from one where it never was, byte for byte.
@Suite("Streams: who may see what")
struct StreamLeakTests {
    /// What a caller asks for.
    private enum Subscription: CaseIterable {
        case commits, ofGeneral, ofWriters, later, enrollments

        func parameters(_ owner: String) -> [(String, String)] {
            switch self {
            case .commits: [("did", owner)]
            case .ofGeneral: [("did", owner), ("domain", "general")]
            case .ofWriters: [("did", owner), ("domain", "writers")]
            // Behind everything but the secret.
            case .later: [("did", owner), ("cursor", "8")]
            case .enrollments: []
            }
        }
    }

    private enum Cell { case hidden, shown, deleted }

    private func cell(_ caller: MatrixCaller, _ subscription: Subscription, _ state: RecordState) -> Cell {
        let boundary: String? =
            switch state {
            case .lacked: "writers"
            case .shared, .deleted: "general"
            case .absent, .ownerOnly, .ownerLeft, .ownerLeftErased, .ownerBack, .ownerBackErased: nil
            }
        let isIn: Bool =
            switch subscription {
            case .ofGeneral: boundary == "general"
            case .ofWriters: boundary == "writers"
            case .commits, .later, .enrollments: true
            }
        guard subscription != .enrollments, state != .absent, isIn else { return .hidden }
        switch caller {
        case .owner: return state == .deleted ? .deleted : .shown
        case .appView: return boundary == nil ? .hidden : state == .deleted ? .deleted : .shown
        default: return .hidden
        }
    }

    @Test(
        "every stream × every caller: the record is told of to whoever may see it, and was never there for everybody else (I12)",
        arguments: [RecordState.absent, .lacked, .shared, .ownerOnly, .deleted])
    func matrix(state: RecordState) async throws {
        let world = try await LeakWorld(state), empty = try await LeakWorld(.absent)
        var counts: [String: Int] = [:]
        for caller in MatrixCaller.allCases {
            for subscription in Subscription.allCases {
                let name: Comment = "\(subscription) as \(caller), \(state), seed \(TestFiles.seed)"
                let told = try await told(world, caller, subscription, of: LeakWorld.owner)
                let absent = try await self.told(empty, caller, subscription, of: LeakWorld.owner)
                let text = told.map(\.searched).joined()
                let cell = cell(caller, subscription, state)
                counts["\(cell)", default: 0] += 1
                switch cell {
                case .hidden:
                    #expect(told == absent, name)
                    #expect(!text.contains(LeakWorld.text) && !text.contains(LeakWorld.key), name)
                case .shown:
                    #expect(text.contains(LeakWorld.text) && told.count > absent.count, name)
                case .deleted:
                    #expect(!text.contains(LeakWorld.text) && text.contains(LeakWorld.key), name)
                    #expect(told.last?.operations.map(\.action) == ["delete"], name)
                }
                guard ![.owner, .appView].contains(caller), subscription != .later else { continue }
                #expect(told.map(\.error) != [nil] && told.count == 1, name)
                let nobody = try await self.told(world, caller, subscription, of: LeakWorld.nobody)
                #expect(told == nobody, "as of somebody who never was here: \(name)")
            }
        }
        #expect(counts["hidden", default: 0] >= 29, "\(counts)")
        if ![.absent, .ownerOnly].contains(state) { #expect(counts.count == 2, "\(counts)") }
    }

    @Test(
        "of somebody who has left every stream tells what it tells of somebody who never was here (I12)",
        arguments: [.ownerLeft, RecordState.ownerLeftErased])
    func left(state: RecordState) async throws {
        let world = try await LeakWorld(state)
        for caller in MatrixCaller.allCases {
            for subscription in Subscription.allCases where subscription != .enrollments {
                let name: Comment = "\(subscription) as \(caller), \(state), seed \(TestFiles.seed)"
                let told = try await told(world, caller, subscription, of: LeakWorld.owner)
                // Asked for themselves, somebody who has left has no credential here; nobody else's stream is for them.
                guard caller != .owner else {
                    #expect(told.count == 1 && told[0].error != nil, name)
                    continue
                }
                #expect(told.count == 1, name)
                #expect(try await self.told(world, caller, subscription, of: LeakWorld.nobody) == told, name)
            }
            let members = try await told(world, caller, .enrollments, of: LeakWorld.owner)
            #expect(
                !members.contains {
                    $0.searched.contains("enroll") && $0.searched.contains("/others")
                        && $0.searched.contains(LeakWorld.owner)
                }, "\(caller)")
        }
    }

    @Test(
        "who comes back is told of again with what was kept, and with nothing of what was erased (I12)",
        arguments: [.ownerBack, RecordState.ownerBackErased])
    func back(state: RecordState) async throws {
        let world = try await LeakWorld(state)
        for caller in MatrixCaller.allCases {
            let text = try await told(world, caller, .commits, of: LeakWorld.owner).map(\.searched).joined()
            let isShown = state == .ownerBack && (caller == .owner || caller == .appView)
            #expect(text.contains(LeakWorld.text) == isShown, "\(caller), \(state), seed \(TestFiles.seed)")
            #expect(text.contains(LeakWorld.key) == isShown, "\(caller), \(state), seed \(TestFiles.seed)")
        }
    }

    /// All that a subscriber is told until nothing more comes.
    private func told(
        _ world: LeakWorld, _ caller: MatrixCaller, _ subscription: Subscription, of owner: String
    ) async throws -> [SeenMessage] {
        let streams = try StreamService(world.service)
        let authorization = try world.authorization(caller, method: StreamService.method)
        if let authorization { world.service.watch.keep(authorization: authorization) }
        return try await streams.told(subscription.parameters(owner), authorization)
    }
}

extension StreamService {
    /// Without a socket: what is told at this moment, an error included.
    fileprivate func told(_ parameters: [(String, String)], _ authorization: String?) async throws -> [SeenMessage] {
        var headers: [(String, String)] = []
        if let authorization { headers.append(("authorization", authorization)) }
        return try await server.told(Self.target(parameters), headers).map(SeenMessage.init)
    }
}

extension SeenMessage {
    /// Its bytes, for a search.
    fileprivate var searched: String { String(decoding: bytes, as: UTF8.self) }
}
