/// One number for a place in the order of durability: `generation × 2^40 + position`, below 2^53 so that JavaScript can hold it.
///
/// Generation 0 lasts until a restored log cannot prove that its head is complete; the `service.start` that then opens the
/// next is position 1 of it. A store numbers its rows with the raw value, so row order is stream order for ever.
package struct StreamCursor: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt64

    package static let positionBits: UInt64 = 40
    package static let positionMax: UInt64 = (1 << positionBits) - 1
    package static let generationMax: UInt64 = (1 << 13) - 1
    /// Before the first event of generation 0.
    package static let start = StreamCursor(unchecked: 0)

    private init(unchecked rawValue: UInt64) { self.rawValue = rawValue }

    /// Nil past 2^53 − 1.
    package init?(rawValue: UInt64) {
        guard rawValue < 1 << 53 else { return nil }
        self.rawValue = rawValue
    }

    /// Nil where the generation is past 8,191 or the position past 2^40 − 1.
    package init?(generation: UInt64, position: UInt64) {
        guard generation <= StreamCursor.generationMax, position <= StreamCursor.positionMax else { return nil }
        rawValue = generation << StreamCursor.positionBits | position
    }

    package var generation: UInt64 { rawValue >> StreamCursor.positionBits }
    /// Within the generation, from 1; 0 stands before the first. It is the leaf's index in the generation's tree + 1 (I13).
    package var position: UInt64 { rawValue & StreamCursor.positionMax }
    /// The place after this one in the same generation.
    package var next: StreamCursor { StreamCursor(unchecked: rawValue + 1) }

    package var description: String { String(rawValue) }
    package static func < (left: StreamCursor, right: StreamCursor) -> Bool { left.rawValue < right.rawValue }
}
