@testable import Client
import ATProto
import Foundation
import Simulation

/// Messages of a stream as a service writes them.
enum StreamSample {
    static let account = try! DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
    static let time = "2026-01-31T12:00:00.000Z"
    static let post = "zone.stratos.feed.post"

    static func rev(_ number: UInt64) -> TID { TID(microseconds: 1_700_000_000_000_000 + Int64(number), clockID: 7) }

    static func record(_ text: String) -> Value { ["$type": .string(post), "text": .string(text), "createdAt": .string(time)] }

    static func create(_ key: String, _ text: String? = nil) -> Value {
        let record = record(text ?? "text of \(key)")
        return [
            "action": "create", "path": .string("\(post)/\(key)"), "cid": .link(CID(hashing: DAGCBOR.encode(record))), "record": record,
        ]
    }

    static func delete(_ key: String) -> Value { ["action": "delete", "path": .string("\(post)/\(key)")] }

    static func commit(_ sequence: UInt64, rev: UInt64, _ operations: [Value]) -> Value {
        [
            "seq": .integer(Int64(sequence)), "did": .string(account.description), "time": .string(time),
            "rev": .string(Self.rev(rev).description), "ops": .array(operations),
        ]
    }

    /// A commit that creates one record.
    static func single(_ sequence: UInt64) -> [UInt8] {
        frame("#commit", commit(sequence, rev: sequence, [create("k\(sequence)")]))
    }

    static func enrollment(_ sequence: UInt64, _ action: String = "enroll") -> [UInt8] {
        frame(
            "#enrollment",
            [
                "seq": .integer(Int64(sequence)), "did": .string(account.description), "action": .string(action),
                "boundaries": ["did:web:stratos.example.com/general"], "time": .string(time),
            ])
    }

    static func frame(_ type: String, _ body: Value) -> [UInt8] {
        DAGCBOR.encode(["t": .string(type), "op": 1]) + DAGCBOR.encode(body)
    }

    static func error(_ name: String, _ message: String? = nil) -> [UInt8] {
        var body: ValueMap = ["error": .string(name)]
        if let message { body["message"] = .string(message) }
        return DAGCBOR.encode(["op": -1]) + DAGCBOR.encode(.map(body))
    }

    /// Every message after `cursor`, in order, then a close.
    static func serve(_ peer: StreamPeer, upTo last: UInt64) {
        peer.accept()
        for sequence in stride(from: peer.cursor + 1, through: max(last, peer.cursor), by: 1) where sequence <= last {
            if !peer.send(message: single(sequence)) { return }
        }
    }
}

extension StreamEvent {
    /// `seq path` of each operation, for comparing.
    var told: [String] {
        guard case .commit(let commit) = message else { return [] }
        return commit.operations.map(\.path)
    }
}
