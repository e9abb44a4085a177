internal import CResolv
internal import Glibc
internal import Synchronization

/// TXT records, asked of the system's name servers with libresolv.
///
/// `res_nquery` blocks, so it runs on threads of our own; each question has a resolver state of its own, which is what makes the
/// library's calls safe side by side. Threads and questions that wait for one are bounded, and a caller waits no longer than the
/// timeout, whatever the library does.
package final class TextRecords: Sendable {
    /// Whom to ask in place of resolv.conf's servers.
    package struct NameServer: Sendable {
        /// IPv4, in network order.
        let address: [UInt8]
        let port: UInt16

        package init(address: [UInt8], port: UInt16) {
            precondition(address.count == 4, "an IPv4 address has four bytes")
            self.address = address
            self.port = port
        }
    }

    private let nameServer: NameServer?
    private let timeout: Duration
    private let questions: QuestionQueue

    /// - Parameters:
    ///   - threadsMax: questions that are asked at a time.
    ///   - waitingMax: questions behind them; one more is answered `overloaded`.
    package init(nameServer: NameServer? = nil, timeout: Duration = .seconds(3), threadsMax: Int = 16, waitingMax: Int = 256) {
        self.nameServer = nameServer
        self.timeout = timeout
        questions = QuestionQueue(threadsMax: threadsMax, waitingMax: waitingMax)
    }

    /// The TXT records of `name`, each with its pieces joined, in the order of the answer; empty when there is none.
    /// Records that are not UTF-8 are left out: nothing that is looked for could stand in them.
    package func records(of name: String) async throws(TextRecordsError) -> [String] {
        // 253 bytes are what DNS has room for; libresolv takes a C string.
        guard 1...253 ~= name.utf8.count, name.utf8.allSatisfy({ 0x21...0x7E ~= $0 }) else { return [] }
        let question = Question(name: name, nameServer: nameServer)
        let result = await withTaskGroup(of: Result<[String], TextRecordsError>?.self) { group in
            group.addTask { [questions] in await questions.answer(to: question) }
            group.addTask { [timeout] in
                try? await Task.sleep(for: timeout)
                return nil
            }
            // The first is the answer or the end of the time; the other one is told to stop and does at once.
            let first = await group.next() ?? nil
            group.cancelAll()
            return first
        }
        guard let result else { throw .timedOut }
        return try result.get()
    }
}

package enum TextRecordsError: Error, Equatable {
    case timedOut
    /// The name server failed, or could not be reached.
    case serverFailed
    /// The answer is no DNS message, or was cut.
    case malformed
    /// Too many questions wait already.
    case overloaded
}

/// One question and whoever waits for its answer: the thread that asks and the caller's timeout both try to end it.
private final class Question: Sendable {
    typealias Waiter = CheckedContinuation<Result<[String], TextRecordsError>?, Never>

    private enum State {
        case new
        case waiting(Waiter)
        case ended
    }

    let name: String
    private let nameServer: TextRecords.NameServer?
    private let state = Mutex(State.new)

    init(name: String, nameServer: TextRecords.NameServer?) {
        self.name = name
        self.nameServer = nameServer
    }

    var isEnded: Bool {
        state.withLock { if case .ended = $0 { true } else { false } }
    }

    /// - Returns: false when it has ended already.
    func begin(_ waiter: Waiter) -> Bool {
        state.withLock { state in
            guard case .new = state else { return false }
            state = .waiting(waiter)
            return true
        }
    }

    /// - Parameter result: nil when the caller has gone.
    func end(_ result: Result<[String], TextRecordsError>?) {
        let waiter: Waiter? = state.withLock { state in
            defer { state = .ended }
            if case .waiting(let waiter) = state { return waiter }
            return nil
        }
        waiter?.resume(returning: result)
    }

    /// Asks, on a thread that may block.
    func ask() -> Result<[String], TextRecordsError> {
        // The state points into itself, so it must not move.
        withUnsafeTemporaryAllocation(of: cresolv_state.self, capacity: 1) { room in
            let state = room.baseAddress!
            guard cresolv_open(state) == 0 else { return .failure(.serverFailed) }
            defer { cresolv_close(state) }
            return ask(state)
        }
    }

    private func ask(_ state: UnsafeMutablePointer<cresolv_state>) -> Result<[String], TextRecordsError> {
        // Seconds for the first server; with those of resolv.conf behind it five at most, and the caller waits for less.
        state.pointee.retrans = 2
        state.pointee.retry = 1
        if let nameServer {
            let address = in_addr(s_addr: nameServer.address.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) })
            cresolv_set_server(state, address, nameServer.port.bigEndian)
        }
        var answer = [UInt8](repeating: 0, count: TextRecordAnswer.bytesMax)
        let count = cresolv_query(state, name, Int32(ns_t_txt.rawValue), &answer, Int32(answer.count))
        guard count >= 0 else {
            let isAnswer = state.pointee.res_h_errno == HOST_NOT_FOUND || state.pointee.res_h_errno == NO_DATA
            return isAnswer ? .success([]) : .failure(.serverFailed)
        }
        // libresolv gives the length that the answer would have had.
        guard count <= answer.count else { return .failure(.malformed) }
        return TextRecordAnswer.records(in: answer[..<Int(count)])
    }
}

/// Questions that wait for a thread. One is started for each question while there are few, and ends when it finds none.
private final class QuestionQueue: Sendable {
    private struct State {
        var waiting: [Question] = []
        var threads = 0
    }

    private let state = Mutex(State())
    private let threadsMax: Int
    private let waitingMax: Int

    init(threadsMax: Int, waitingMax: Int) {
        self.threadsMax = threadsMax
        self.waitingMax = waitingMax
    }

    /// - Returns: nil when the task was cancelled first.
    func answer(to question: Question) async -> Result<[String], TextRecordsError>? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { waiter in
                guard question.begin(waiter) else { return waiter.resume(returning: nil) }
                if !push(question) { question.end(.failure(.overloaded)) }
            }
        } onCancel: {
            question.end(nil)
        }
    }

    private func push(_ question: Question) -> Bool {
        let (isTaken, startsThread) = state.withLock { state in
            if state.threads < threadsMax {
                state.threads += 1
                return (true, true)
            }
            state.waiting.removeAll(where: \.isEnded)
            guard state.waiting.count < waitingMax else { return (false, false) }
            state.waiting.append(question)
            return (true, false)
        }
        if startsThread { startThread { [self] in work(from: question) } }
        return isTaken
    }

    private func work(from first: Question) {
        var question: Question? = first
        while let current = question {
            if !current.isEnded { current.end(current.ask()) }
            question = next()
        }
    }

    private func next() -> Question? {
        state.withLock { state in
            if state.waiting.isEmpty {
                state.threads -= 1
                return nil
            }
            return state.waiting.removeFirst()
        }
    }
}
