import CAllocator
import Hummingbird
import NIOCore
import Synchronization

/// A request whose body could not be read to its end: the client has gone, or sends what is no HTTP. Nothing is to be answered.
struct BrokenRequest: Error {
    let cause: any Error
}

extension RequestBody {
    /// The body's pieces as they come. Errors of the connection are told from those of `take`, which are passed on.
    func forEachPiece(_ take: (ByteBuffer) throws -> Void) async throws {
        var pieces = makeAsyncIterator()
        while true {
            let piece: ByteBuffer?
            do { piece = try await pieces.next() } catch { throw BrokenRequest(cause: error) }
            guard let piece else { return }
            try take(piece)
        }
    }
}

/// The memory that JSON bodies may take, over all requests: bytes that have arrived and wait for their rest, and bytes that are
/// being worked on, which take up to some twenty times as much once they are values.
///
/// Small bodies are free of this: there are at most as many as connections. Of large ones so many may be arriving, and a further one
/// is refused with 429, for waiting would let those who stop in the middle hold up the rest; so many are worked on, in order of
/// arrival, and the others wait, as what they wait for is the server's own work.
final class RequestBodies: Sendable {
    struct Limits: Sendable {
        var freeBytes = 16 << 10
        var arrivingBytesMax = 4 << 20
        var workingBytesMax = 2 << 20
        /// After so many bytes of large bodies the allocator gives back what it keeps of their values, which it otherwise keeps for
        /// each of its threads.
        var trimmedBytes = 1 << 20
    }

    private let limits: Limits
    private let arriving = Mutex(0)
    private let untrimmed = Mutex(0)
    private let turns: Turns

    init(limits: Limits = Limits()) {
        self.limits = limits
        turns = Turns(weightMax: limits.workingBytesMax)
    }

    /// Reads a body of at most `bytesMax`, and runs `work` on it in its turn.
    /// - Parameter length: what the head says that the body has.
    /// - Throws: `XRPCError.payloadTooLarge`; `busy` when too much is arriving.
    func read<Result>(
        _ body: RequestBody, length: Int?, bytesMax: Int, work: ([UInt8]) async throws -> Result
    ) async throws -> Result {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(min(length ?? 0, bytesMax))
        var charged = 0
        defer { if charged > 0 { arriving.withLock { $0 -= charged } } }
        try await body.forEachPiece { piece in
            let count = bytes.count + piece.readableBytes
            guard count <= bytesMax else { throw XRPCError.payloadTooLarge }
            if count > limits.freeBytes {
                guard charge(count - charged) else { throw XRPCError.busy }
                charged = count
            }
            bytes.append(contentsOf: piece.readableBytesView)
        }
        guard bytes.count > limits.freeBytes else { return try await work(bytes) }
        return try await turns.run(weight: bytes.count) {
            defer { trim(after: bytes.count) }
            return try await work(bytes)
        }
    }

    private func trim(after bytes: Int) {
        let isDue = untrimmed.withLock { untrimmed in
            untrimmed += bytes
            guard untrimmed >= limits.trimmedBytes else { return false }
            untrimmed = 0
            return true
        }
        if isDue { malloc_trim(0) }
    }

    private func charge(_ bytes: Int) -> Bool {
        arriving.withLock { arriving in
            guard arriving + bytes <= limits.arrivingBytesMax else { return false }
            arriving += bytes
            return true
        }
    }
}
