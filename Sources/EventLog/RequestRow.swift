package import ATProto

/// The memory of a request with an idempotency key: asked again within seven days, it gets its first answer.
///
/// The row stands in the same transaction as its event, can be rebuilt from bodies (the body's `request` has all that the
/// scope is made of), and is erased with them.
package struct RequestRow: Hashable, Sendable {
    /// 32 bytes; see `scope(actor:by:request:)`.
    package let scope: [UInt8]
    /// SHA-256 of the canonical DAG-CBOR of the input: the same scope with another input is refused.
    package let input: [UInt8]
    /// The event that the request became.
    package let sequence: UInt64
    /// That event's time.
    package let time: Timestamp

    /// A row this old counts as none: seven days.
    package static let millisecondsMax: Int64 = 7 * 24 * 60 * 60 * 1000

    package init(scope: [UInt8], input: [UInt8], sequence: UInt64, time: Timestamp) {
        precondition(scope.count == 32 && input.count == 32, "a scope and an input are SHA-256 digests")
        self.scope = scope
        self.input = input
        self.sequence = sequence
        self.time = time
    }

    /// The row that goes with an event; nil where its client gave no key.
    package init?(of event: Event, saying body: EventBody) {
        guard let request = body.provenance.request else { return nil }
        self.init(
            scope: RequestRow.scope(actor: event.did, by: body.provenance.by, request: request), input: request.input,
            sequence: event.sequence, time: event.time)
    }

    package func counts(at now: Timestamp) -> Bool {
        now.milliseconds - time.milliseconds < RequestRow.millisecondsMax
    }

    /// SHA-256 of the DAG-CBOR map `{actor, caller, key, method}`: whose log, who asked, under which key, for what.
    package static func scope(actor: DID, by agent: Agent, request: ClientRequest) -> [UInt8] {
        let map: ValueMap = [
            "actor": .string(actor.description), "caller": .map(agent.identity.encoded()), "key": .bytes(request.key),
            "method": .string(request.method.description),
        ]
        return CID(hashing: DAGCBOR.encode(.map(map))).digest
    }
}
