import Synchronization

/// The memory that exports under way may take together: each holds the tree of its repo until its reader has all of it, however slowly
/// that goes. One is always let in, whatever its size.
package final class ExportRoom: Sendable {
    private let bytesMax: Int
    private let taken = Mutex(0)

    package init(bytesMax: Int = 256 << 20) { self.bytesMax = bytesMax }

    /// Room for one export, given back when it is let go of: an answer may be dropped before its first byte.
    package final class Place: Sendable {
        private let room: ExportRoom
        private let bytes: Int

        fileprivate init(in room: ExportRoom, bytes: Int) {
            self.room = room
            self.bytes = bytes
        }

        deinit { room.taken.withLock { $0 -= bytes } }
    }

    /// Nil where too much is taken.
    package func place(bytes: Int) -> Place? {
        let isFree = taken.withLock { taken in
            guard taken == 0 || taken + bytes <= bytesMax else { return false }
            taken += bytes
            return true
        }
        return isFree ? Place(in: self, bytes: bytes) : nil
    }
}
