package import ATProto
import Commands
package import EventLog
import Projections

/// The engine's answers as JSON values, the same on the wire, on the socket and in the program.
extension EnrollmentSummary {
    /// `{did, boundaries, signingKey, commit, rev}`.
    package var value: Value {
        [
            "did": .string(did.description), "boundaries": .array(membership.boundaries.map(Value.string)),
            "signingKey": .string(signingKey.didKey), "commit": .string(repo.commit.description), "rev": .string(repo.rev.description),
        ]
    }
}

extension EnrollmentSummary {
    /// `{did, boundaries}`.
    var boundariesValue: Value {
        ["did": .string(did.description), "boundaries": .array(membership.boundaries.map(Value.string))]
    }
}

extension ImportReceipt {
    /// `{imported, commit, rev, data}`.
    package var value: Value {
        [
            "imported": .integer(Int64(imported)), "commit": .string(commit.description), "rev": .string(rev.description),
            "data": .string(data.description),
        ]
    }
}

extension RecordContent {
    /// `{uri, cid, value}`.
    package var response: Value { ["uri": .string(uri.description), "cid": .string(cid.description), "value": value] }
}

extension DigestReport {
    /// `{digest, events, actors, source}`.
    var value: Value {
        [
            "digest": .string(digest), "events": .integer(Int64(events)), "actors": .integer(Int64(actors)), "source": .string(source),
        ]
    }
}

extension Usage {
    var value: Value { ["records": .integer(Int64(records)), "bytes": .integer(Int64(bytes))] }
}

extension LogStatistics {
    /// `{events, actors, bytes, head}`.
    var value: Value {
        [
            "events": .integer(Int64(events)), "actors": .integer(Int64(actors)), "bytes": .integer(Int64(bytes)),
            "head": .integer(Int64(position)),
        ]
    }
}

extension Event {
    /// `{actor, seq, position, time, kind, cid, prev}`.
    func line(_ stored: StoredEvent) -> Value {
        [
            "actor": .string(did.description), "seq": .place(sequence), "position": stored.position.map(Value.place) ?? .null,
            "time": .string(time.description),
            "kind": .string(kind.description), "cid": .string(stored.cid.description), "prev": .optional(prev?.description),
        ]
    }
}

extension Finding {
    /// `{actor, seq, position, file, invariant, message}`.
    package var value: Value {
        [
            "actor": .optional(actor?.description), "seq": sequence.map(Value.place) ?? .null,
            "position": position.map(Value.place) ?? .null, "file": .string(file), "invariant": .string(invariant),
            "message": .string(message),
        ]
    }
}

extension Value {
    /// A number out of a row, which may be damaged and then be any at all: as near to it as JSON has one.
    fileprivate static func place(_ number: UInt64) -> Value {
        .integer(max(-DataModelJSON.integerMax, min(DataModelJSON.integerMax, Int64(bitPattern: number))))
    }
}
