import ATProto
import Foundation
import SQLiteStore
import Synchronization

extension FlipProof {
    /// How many damages came to what.
    package struct Tally: Sendable {
        package var counts: [(name: String, count: Int)] = []
        package var failures: [String] = []

        package init() {}

        package mutating func add(_ other: Tally) {
            for (name, count) in other.counts { add(name, count) }
            failures += other.failures
        }

        package mutating func add(_ name: String, _ count: Int = 1) {
            if let index = counts.firstIndex(where: { $0.name == name }) {
                counts[index].count += count
            } else {
                counts.append((name, count))
            }
        }

        package subscript(name: String) -> Int { counts.first { $0.name == name }?.count ?? 0 }

        fileprivate mutating func take(_ verdict: LogVerdict, of name: String, _ work: String) {
            add(work)
            switch verdict {
            case .refused: add("refused to open")
            case .found(_, let isIncomplete):
                add("found by verify")
                if isIncomplete { add("of these, reads were short before") }
            case .whole: add("served unchanged")
            case .wholeEarlier: add("whole earlier states with their own mark")
            case .failed(let text): if failures.count < 1000 { failures.append("\(work), \(name): \(text)") }
            }
        }
    }

    /// Where damages are tried: a directory in memory where the machine has one, and in it one for each of a few workers.
    package final class Workbench: Sendable {
        private let root: String
        private let small: Bool
        private let workerCount: Int

        package init(small: Bool) throws {
            self.small = small
            // Half of a worker's time goes by while threads begin, end and wake each other.
            workerCount = max(2, ProcessInfo.processInfo.activeProcessorCount) * 2
            let memory = "/dev/shm"
            let parent = FileManager.default.isWritableFile(atPath: memory) ? memory : FileManager.default.temporaryDirectory.path
            root = "\(parent)/stratos-flip-\(UUID().uuidString)"
            try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
            if !small { TestFiles.note("works in \(root); what a worker is at stands in its file `at`") }
        }

        package func remove() {
            // best effort: what is left is in memory, and named in the output.
            try? FileManager.default.removeItem(atPath: root)
        }

        /// An empty directory of its own.
        package func directory(_ name: String) throws -> String {
            let path = root + "/" + name
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            return path
        }

        /// Tries them all, on all processors.
        package func run(_ damages: Damages, _ work: String, by program: Program? = nil) async -> Tally {
            let queue = WorkQueue(count: damages.count, work)
            let total = await withTaskGroup(of: Tally.self) { group in
                for number in 0..<workerCount {
                    group.addTask {
                        var tally = Tally()
                        do {
                            let worker = try Worker(directory: try self.directory("worker-\(number)"), small: self.small)
                            while let index = queue.next() {
                                let damage = damages.make(index)
                                let thorough = self.small || index % 64 == 0
                                let verdict = try await worker.verdict(of: damage, by: program, thorough: thorough)
                                tally.take(verdict, of: damage.name, work)
                            }
                        } catch {
                            tally.failures.append("\(work): the worker failed: \(error)")
                        }
                        return tally
                    }
                }
                var total = Tally()
                for await tally in group { total.add(tally) }
                return total
            }
            if !small { TestFiles.note("\(work): \(total[work])") }
            return total
        }
    }

    /// Numbers from 0, each given to one worker; says how far it is where that takes minutes.
    private final class WorkQueue: Sendable {
        private let count: Int
        private let work: String
        private let taken = Atomic<Int>(0)
        private let began = ContinuousClock.now

        init(count: Int, _ work: String) {
            self.count = count
            self.work = work
        }

        func next() -> Int? {
            let index = taken.add(1, ordering: .relaxed).oldValue
            if index > 0, index % 10_000 == 0, index < count {
                TestFiles.note("\(work): \(index) of \(count) after \((ContinuousClock.now - began) / .seconds(1)) s")
            }
            return index < count ? index : nil
        }
    }

    /// Puts one damage after the other into its directory and looks what becomes of it.
    private final class Worker: Sendable {
        private let directory: String
        /// The damage that is being tried is named here before it is, so that a crash can be seen again.
        private let at: Int32
        private let watch: Watch

        init(directory: String, small: Bool) throws {
            self.directory = directory
            at = open(directory + "/at", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
            guard at >= 0 else { throw POSIXError(.EIO) }
            watch = Watch(small ? nil : directory)
        }

        deinit { close(at) }

        func verdict(of damage: Damage, by program: Program?, thorough: Bool) async throws -> LogVerdict {
            let directory = directory + "/data"
            if !FileManager.default.fileExists(atPath: directory) { mkdir(directory, 0o700) }
            try damage.image.write(to: directory)
            let line = Array("\(damage.name)\n\n".utf8)
            guard pwrite(at, line, line.count, 0) == line.count else { throw POSIXError(.EIO) }
            watch.begin()
            defer { watch.end() }
            if let program { return try await FlipProof.verdict(of: program, on: damage, in: directory) }
            var judge = LogJudge()
            judge.markedEvents = damage.markedEvents
            judge.thorough = thorough
            let verdict = await judge.judge(directory, recorded: damage.recorded)
            if case .refused(let error) = verdict, try LogImage(of: directory) != damage.image {
                return .failed("refused, and yet changed: \(error)")
            }
            return verdict
        }
    }

    /// Ends the process where one damage takes minutes: a hang is a counterexample that no verdict can tell of.
    private final class Watch: Sendable {
        private let began: Mutex<ContinuousClock.Instant?>
        private let isOver = Mutex(false)

        init(_ directory: String?) {
            began = Mutex(nil)
            guard let directory else { return }
            Thread.detachNewThread { [weak self] in
                while true {
                    sleep(5)
                    guard let self, !self.isOver.withLock({ $0 }) else { return }
                    if let began = self.began.withLock({ $0 }), ContinuousClock.now - began > .seconds(120) {
                        TestFiles.note("a damage takes for ever: see \(directory)/at and \(directory)/data")
                        abort()
                    }
                }
            }
        }

        deinit { isOver.withLock { $0 = true } }

        func begin() { began.withLock { $0 = .now } }
        func end() { began.withLock { $0 = nil } }
    }

    /// Runs `stratos verify` on a damaged log: exit status and JSON must say what the store says.
    package static func verdict(of program: Program, on damage: Damage, in directory: String) async throws -> LogVerdict {
        let outcome = try await program.run(["verify", "--json", "--data-dir", directory])
        guard let line = outcome.lines.first, outcome.lines.count == 1, let report = try? DataModelJSON.decodePlain(Array(line.utf8)) else {
            return .failed("status \(outcome.status), output \(outcome.outputText), errors \(outcome.errorText)")
        }
        switch outcome.status {
        case 0:
            guard report["ok"]?.boolValue == true, report["problems"]?.arrayValue == [],
                report["events"]?.integerValue == Int64(damage.recorded.events.count)
            else { return .failed("status 0, and \(line)") }
            var judge = LogJudge()
            judge.signatures = true
            let verdict = await judge.judge(directory, recorded: damage.recorded)
            guard case .whole = verdict else { return .failed("status 0, but then \(verdict)") }
            return verdict
        case 1:
            let problems = report["problems"]?.arrayValue ?? []
            let areNamed = problems.allSatisfy { problem in
                ["file", "invariant", "message"].allSatisfy { problem[$0]?.stringValue?.isEmpty == false }
            }
            guard report["ok"]?.boolValue == false, !problems.isEmpty, areNamed else { return .failed("status 1, and \(line)") }
            // Of a log that does not open no event is read.
            guard report["events"]?.integerValue == 0 else { return .found([], isIncomplete: false) }
            let verdict = try await refusal(of: damage, in: directory)
            if case .refused(let error) = verdict, problems.map({ $0["message"]?.stringValue }) != [error.finding?.message] {
                return .failed("status 1, and \(line), where the store says \(error)")
            }
            return verdict
        case 3:
            // Only the machine's own refusals: what is wrong with a log is a problem.
            guard report["error"]?.stringValue == "LogRefused", report["message"]?.stringValue?.contains("log") == true,
                case .refused(.storage(let error)) = try await refusal(of: damage, in: directory), !error.isCorruption
            else { return .failed("status 3, and \(line)") }
            return .refused(.storage(error))
        default: return .failed("status \(outcome.status): \(line) \(outcome.errorText)")
        }
    }

    /// What the store itself says of a log that the program did not open: that must be as it was found.
    private static func refusal(of damage: Damage, in directory: String) async throws -> LogVerdict {
        let isAsFound = try LogImage(of: directory) == damage.image
        let verdict = await LogJudge().judge(directory, recorded: damage.recorded)
        if case .refused(let error) = verdict, !isAsFound { return .failed("refused, and yet changed: \(error)") }
        return verdict
    }
}
