import Authorization
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
/// Small bodies are free of this: there are at most as many as connections, and a call without a credential has no other. Of large ones so
/// many may be arriving, of one caller no more than one of the largest, so that who stops in the middle takes nobody else's place; a
/// further one is refused with 429, for waiting would let those who stop hold up the rest. So many are worked on, in order of arrival,
/// and the others wait, as what they wait for is the server's own work.
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
    private let arriving = Mutex(Arriving())
    private let untrimmed = Mutex(0)
    private let turns: Turns

    init(limits: Limits = Limits()) {
        self.limits = limits
        turns = Turns(weightMax: limits.workingBytesMax)
    }

    /// Reads a body of at most `bytesMax`, and runs `work` on it in its turn.
    /// - Parameters:
    ///   - caller: nil for a call without a credential.
    ///   - length: what the head says that the body has.
    /// - Throws: `XRPCError.payloadTooLarge`; `busy` when too much is arriving, of this caller or in all.
    func read<Result>(
        _ body: RequestBody, of caller: Caller?, length: Int?, bytesMax: Int, work: ([UInt8]) async throws -> Result
    ) async throws -> Result {
        let bytesMax = caller == nil ? min(bytesMax, limits.freeBytes) : bytesMax
        if let length, length > bytesMax { throw XRPCError.payloadTooLarge }
        var bytes: [UInt8] = []
        // What is large takes its memory when some of it has come: until then it is only announced.
        bytes.reserveCapacity(min(length ?? 0, limits.freeBytes))
        var charged = 0
        defer { if let caller, charged > 0 { arriving.withLock { $0.remove(charged, of: caller) } } }
        try await body.forEachPiece { piece in
            let count = bytes.count + piece.readableBytes
            guard count <= bytesMax else { throw XRPCError.payloadTooLarge }
            if let caller, count > limits.freeBytes {
                let isTaken = arriving.withLock {
                    $0.add(count - charged, of: caller, shareMax: bytesMax, bytesMax: limits.arrivingBytesMax)
                }
                guard isTaken else { throw XRPCError.busy }
                if charged == 0, let length { bytes.reserveCapacity(length) }
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
        if isDue { Allocator.trim() }
    }

    /// Bytes of large bodies that have arrived and are not worked off.
    private struct Arriving {
        private var bytes = 0
        private var shares: [Caller: Int] = [:]

        /// - Returns: false where that is too much, of the caller or in all.
        mutating func add(_ count: Int, of caller: Caller, shareMax: Int, bytesMax: Int) -> Bool {
            let share = (shares[caller] ?? 0) + count
            guard share <= shareMax, bytes + count <= bytesMax else { return false }
            shares[caller] = share
            bytes += count
            return true
        }

        mutating func remove(_ count: Int, of caller: Caller) {
            let share = (shares[caller] ?? 0) - count
            shares[caller] = share > 0 ? share : nil
            bytes -= count
        }
    }
}
