import ATProto
import Client

/// One line of output, with the event that it is the n-th line of.
struct FollowLine: Sendable {
    /// JSON and a newline; empty where an event has no line of its own and only moves the cursor.
    let bytes: [UInt8]
    let event: StreamEvent
    /// Operations of the event that were told up to and with this line.
    let operations: Int

    /// Where the stream is once this line was taken.
    var position: StreamPosition { event.position(afterOperations: operations) }

    /// A line for each operation: who pipes into `jq` wants records, and a batch of two hundred is none.
    static func lines(of event: StreamEvent, verifier: FollowVerifier?) async -> [FollowLine] {
        switch event.message {
        case .commit(let commit):
            guard !commit.operations.isEmpty else { return [FollowLine(bytes: [], event: event, operations: 0)] }
            var lines: [FollowLine] = []
            for (index, operation) in commit.operations.enumerated() {
                var object = fields(of: operation, in: commit)
                await verifier?.judge(operation, of: commit.account).map { $0.add(to: &object) }
                lines.append(FollowLine(bytes: line(object), event: event, operations: index + 1))
            }
            return lines
        case .enrollment(let enrollment):
            var object = fields(of: enrollment)
            await verifier?.judge(enrollment).map { $0.add(to: &object) }
            return [FollowLine(bytes: line(object), event: event, operations: 1)]
        case .notice: return [FollowLine(bytes: [], event: event, operations: 1)]
        }
    }

    private static func fields(of operation: StreamOperation, in commit: StreamCommit) -> ValueMap {
        var object: ValueMap = [
            "seq": .integer(Int64(commit.sequence)), "did": .string(commit.account.description), "time": .string(commit.time.description),
            "rev": .string(commit.rev.description), "path": .string(operation.path),
            "uri": .string("at://\(commit.account)/\(operation.path)"),
        ]
        switch operation.action {
        case .create(let cid, let record), .update(let cid, let record):
            object["event"] = if case .create = operation.action { "create" } else { "update" }
            object["cid"] = .string(cid.description)
            object["record"] = record
        case .delete: object["event"] = "delete"
        }
        return object
    }

    private static func fields(of enrollment: StreamEnrollment) -> ValueMap {
        var object: ValueMap = [
            "event": .string(enrollment.action.rawValue), "did": .string(enrollment.account.description),
            "time": .string(enrollment.time.description),
        ]
        if let sequence = enrollment.sequence { object["seq"] = .integer(Int64(sequence)) }
        if let boundaries = enrollment.boundaries { object["boundaries"] = .array(boundaries.map(Value.string)) }
        if let service = enrollment.service { object["service"] = .string(service) }
        return object
    }

    private static func line(_ object: ValueMap) -> [UInt8] { DataModelJSON.encode(.map(object)) + [UInt8(ascii: "\n")] }
}
