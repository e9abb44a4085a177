package import ATProto

/// One thing that is wrong with a log, named so that a human finds the place.
package struct Finding: Hashable, Sendable, CustomStringConvertible {
    package let actor: DID?
    package let sequence: UInt64?
    /// Raw cursor.
    package let position: UInt64?
    /// The file, or the relation, that holds what is wrong.
    package let file: String
    /// `I1`…`I15`, or one word for what has no number: `format`, `time`, `storage`.
    package let invariant: String
    package let message: String

    package init(
        actor: DID? = nil, sequence: UInt64? = nil, position: UInt64? = nil, file: String, invariant: String, message: String
    ) {
        self.actor = actor
        self.sequence = sequence
        self.position = position
        self.file = file
        self.invariant = invariant
        self.message = message
    }

    package var description: String {
        let place = [actor.map(\.description), sequence.map { "event \($0)" }, position.map { "position \($0)" }, file]
        return "\(invariant) \(place.compactMap(\.self).joined(separator: ", ")): \(message)"
    }
}
