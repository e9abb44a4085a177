internal import Glibc

/// A first-in first-out queue with a bound, between tasks that push and threads that wait.
///
/// `@unchecked Sendable`: every stored property after `init` is read and written under `lock` only.
final class BlockingQueue<Element: Sendable>: @unchecked Sendable {
    enum Push { case queued, full, closed }

    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let arrival = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var elements: [Element?] = []
    private var first = 0
    private var isClosed = false
    private let waitingMax: Int

    init(waitingMax: Int) {
        self.waitingMax = waitingMax
        pthread_mutex_init(lock, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(arrival, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(arrival)
        pthread_mutex_destroy(lock)
        arrival.deallocate()
        lock.deallocate()
    }

    func push(_ element: Element) -> Push {
        let push = insert(element)
        // Outside the lock: a thread that wakes while it is held only goes to sleep again.
        if push == .queued { pthread_cond_signal(arrival) }
        return push
    }

    private func insert(_ element: Element) -> Push {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        if isClosed { return .closed }
        if elements.count - first >= waitingMax { return .full }
        elements.append(element)
        return .queued
    }

    var count: Int {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return elements.count - first
    }

    /// After this nothing more is taken in; what waits is still given out.
    func close() {
        pthread_mutex_lock(lock)
        isClosed = true
        pthread_cond_broadcast(arrival)
        pthread_mutex_unlock(lock)
    }

    enum Wait {
        case none
        case forever
        case milliseconds(Int)
    }

    /// Takes the first element and those behind it for as long as `fits` says so, in order.
    /// - Returns: an empty array when the wait ended without an element; nil when the queue is closed and empty.
    func take(wait: Wait, while fits: (Element) -> Bool) -> [Element]? {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        awaitElement(wait)
        if first == elements.count { return isClosed ? nil : [] }
        var taken: [Element] = []
        while first < elements.count, let element = elements[first], taken.isEmpty || fits(element) {
            if taken.isEmpty { _ = fits(element) }
            taken.append(element)
            elements[first] = nil
            first += 1
        }
        compact()
        return taken
    }

    private func awaitElement(_ wait: Wait) {
        switch wait {
        case .none: return
        case .forever:
            while first == elements.count, !isClosed { pthread_cond_wait(arrival, lock) }
        case .milliseconds(let milliseconds):
            var deadline = timespec()
            clock_gettime(CLOCK_MONOTONIC, &deadline)
            deadline.tv_nsec += milliseconds % 1000 * 1_000_000
            deadline.tv_sec += milliseconds / 1000 + deadline.tv_nsec / 1_000_000_000
            deadline.tv_nsec %= 1_000_000_000
            while first == elements.count, !isClosed {
                if pthread_cond_timedwait(arrival, lock, &deadline) == ETIMEDOUT { return }
            }
        }
    }

    /// Gives back the room of what was taken, once it is more than what waits.
    private func compact() {
        if first == elements.count {
            elements.removeAll(keepingCapacity: elements.capacity <= 1024)
            first = 0
        } else if first > 64, first > elements.count / 2 {
            elements.removeFirst(first)
            first = 0
        }
    }
}
