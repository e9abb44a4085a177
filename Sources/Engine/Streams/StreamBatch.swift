import ATProto
import Authorization
import Synchronization

/// Some messages of a stream, in order, and how far they lead.
package struct StreamBatch: Sendable {
    /// Each as it goes over the wire; none where what was read is not for this subscriber.
    package let frames: [[UInt8]]
    let place: StreamPlace
    /// Whether nothing stood behind `place` when this was judged.
    let isAtEnd: Bool

    var byteCount: Int { frames.reduce(128) { $0 + $1.count + 64 } }
}

/// Why a stream is not begun, or ends. The name is that of the error frame.
package enum StreamRefusal: Error, Hashable, Sendable {
    case authenticationRequired(String)
    /// No such account, or it has left: nobody is told which.
    case notFound
    case futureCursor
    /// The projections are being made anew.
    case unavailable

    package var name: String {
        switch self {
        case .authenticationRequired: "AuthenticationRequired"
        case .notFound: "NotFound"
        case .futureCursor: "FutureCursor"
        case .unavailable: "ServiceUnavailable"
        }
    }

    package var message: String {
        switch self {
        case .authenticationRequired(let message): message
        case .notFound: "Account not found"
        case .futureCursor: "Cursor is in the future."
        case .unavailable: "The service is rebuilding; try again shortly"
        }
    }
}

/// Batches that were made lately, for all who follow the same actor live and may see the same: the first one reads, judges and
/// encodes, the others are given its frames.
///
/// A batch is found again only under the version that it was judged under (`StreamFollowers.version`), which every append to that actor
/// changes: so what is sent is judged by the log as it stands when it is sent. Bounded: two halves, of which the older one is dropped
/// when the newer one is full.
final class StreamCache: Sendable {
    struct Key: Hashable, Sendable {
        let topic: StreamTopic
        /// Nil: of those who see every record with a boundary.
        let owner: DID?
        let domain: String?
        let place: StreamPlace
        let version: UInt64
    }

    private enum Entry {
        case making(waiters: [CheckedContinuation<Void, Never>])
        case made(Readable<StreamBatch>)
    }

    private struct State {
        var recent: [Key: Entry] = [:]
        var older: [Key: Entry] = [:]
        var recentBytes = 0
    }

    private let halfBytesMax: Int
    private let state = Mutex(State())

    init(bytesMax: Int) { halfBytesMax = max(1, bytesMax / 2) }

    func batch(_ key: Key, _ make: () async throws -> Readable<StreamBatch>) async throws -> Readable<StreamBatch> {
        while true {
            switch claim(key) {
            case .made(let batch): return batch
            case .nobody: return try await keep(key, make)
            case .somebody: await wait(for: key)
            }
        }
    }

    private enum Claim {
        case made(Readable<StreamBatch>)
        case somebody
        /// From now on: the caller.
        case nobody
    }

    private func claim(_ key: Key) -> Claim {
        state.withLock { state in
            switch state.recent[key] ?? state.older[key] {
            case .made(let batch): return .made(batch)
            case .making: return .somebody
            case nil:
                state.recent[key] = .making(waiters: [])
                return .nobody
            }
        }
    }

    private func wait(for key: Key) async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let isOver = state.withLock { state in
                // What is being made is always among the recent ones.
                guard case .making(let waiters) = state.recent[key] else { return true }
                state.recent[key] = .making(waiters: waiters + [continuation])
                return false
            }
            if isOver { continuation.resume() }
        }
    }

    private func keep(_ key: Key, _ make: () async throws -> Readable<StreamBatch>) async throws -> Readable<StreamBatch> {
        do {
            let batch = try await make()
            finish(key, batch)
            return batch
        } catch {
            finish(key, nil)
            throw error
        }
    }

    private func finish(_ key: Key, _ batch: Readable<StreamBatch>?) {
        let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            var waiters: [CheckedContinuation<Void, Never>] = []
            if case .making(let waiting) = state.recent[key] { waiters = waiting }
            state.recent[key] = batch.map(Entry.made)
            state.recentBytes += batch?.content.byteCount ?? 0
            if state.recentBytes > halfBytesMax { turn(&state) }
            return waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// What is still being made has its waiters, so it stays.
    private func turn(_ state: inout State) {
        let making = state.recent.filter { if case .making = $0.value { true } else { false } }
        state.older = state.recent.filter { if case .made = $0.value { true } else { false } }
        state.recent = making
        state.recentBytes = 0
    }
}
