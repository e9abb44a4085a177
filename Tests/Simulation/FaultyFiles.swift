internal import CFaultyVFS
import Glibc
import Synchronization

/// A disk in memory below SQLite: fails when it is told to, and knows what a loss of power at any moment would leave of it.
///
/// One file layer with a name of its own for each instance, so that tests run beside each other. See `CFaultyVFS.h` for what is
/// durable when.
///
/// `@unchecked Sendable`: the disk does its own locking, and the pointer to it never changes.
package final class FaultyFiles: @unchecked Sendable {
    /// The kinds of calls that are counted, and can fail.
    package enum Call: Int, CaseIterable, Sendable {
        case open, read, write, truncate, sync, size, delete, access, lock, map

        /// After a failure of one of these nobody knows what the disk holds.
        package var changesFiles: Bool { self == .write || self == .truncate || self == .sync || self == .delete }
    }

    package enum Cause: Sendable { case inputOutput, noSpace, overQuota }

    /// How much of the call that fails is done nevertheless.
    package enum Effect: Int, CaseIterable, Sendable { case none, half, whole }

    /// Which calls fail, and how.
    package struct Fault: Sendable {
        /// Number of the call with which it begins, from 1.
        package var first: UInt64
        /// All of them from there on; else the first that can.
        package var isForever: Bool
        package var cause: Cause
        package var effect: Effect
        package var calls: Set<Call>
        /// Only what needs room that its file does not have yet, as on a disk that is full.
        package var needsRoom: Bool

        package init(
            first: UInt64, isForever: Bool = false, cause: Cause = .inputOutput, effect: Effect = .none,
            calls: Set<Call> = Set(Call.allCases), needsRoom: Bool = false
        ) {
            self.first = first
            self.isForever = isForever
            self.cause = cause
            self.effect = effect
            self.calls = calls
            self.needsRoom = needsRoom
        }
    }

    /// The first call that failed.
    package struct Hit: Sendable, CustomStringConvertible {
        package let number: UInt64
        package let call: Call
        /// Last part of the file's name.
        package let file: String

        package var description: String { "\(call) of \(file), call \(number)" }
    }

    /// The name of the file layer.
    package let name: String
    private let disk: OpaquePointer
    private static let count = Atomic<Int>(0)

    package init() {
        name = "faulty-\(Self.count.wrappingAdd(1, ordering: .relaxed).newValue)"
        guard let disk = faulty_disk_create(name) else { preconditionFailure("a file layer of the name \(name) is there already") }
        self.disk = disk
    }

    deinit { faulty_disk_destroy(disk) }

    /// Removes all files, counts and faults.
    package func clear() { faulty_disk_clear(disk) }

    // MARK: Faults

    package func fail(_ fault: Fault?) {
        var plan = faulty_plan()
        if let fault {
            plan.first = fault.first
            plan.forever = fault.isForever ? 1 : 0
            plan.error =
                switch fault.cause {
                case .inputOutput: EIO
                case .noSpace: ENOSPC
                case .overQuota: EDQUOT
                }
            plan.effect = Int32(fault.effect.rawValue)
            plan.calls = Self.mask(fault.calls)
            plan.needs_room = fault.needsRoom ? 1 : 0
        }
        faulty_disk_set_plan(disk, plan)
    }

    /// The first call that failed since the fault was set.
    package var hit: Hit? {
        var hit = faulty_hit()
        guard faulty_disk_hit(disk, &hit) != 0, let call = Call(rawValue: Int(hit.kind)) else { return nil }
        return Hit(number: hit.number, call: call, file: Self.lastPart(of: String(cString: hit.file)))
    }

    package var callCount: UInt64 { faulty_disk_call_count(disk) }

    /// What the `number`-th call was.
    package func call(_ number: UInt64) -> Call? { Call(rawValue: Int(faulty_disk_call_kind(disk, number))) }

    /// Lets calls of these kinds wait until `release`.
    package func hold(_ calls: Set<Call>) { faulty_disk_hold(disk, Self.mask(calls)) }
    /// Lets checkpoints wait, each when it has read what the WAL holds and done nothing about it yet, until `release`.
    package func holdCheckpoints() { faulty_disk_hold_checkpoints(disk, 1) }
    package func release() {
        faulty_disk_hold(disk, 0)
        faulty_disk_hold_checkpoints(disk, 0)
    }
    /// How many calls wait.
    package var heldCount: Int { Int(faulty_disk_held(disk)) }

    /// Answers a PRAGMA in SQLite's place, as file layers do that know better.
    package func answer(_ pragma: String, with answer: String) { faulty_disk_answer(disk, pragma, answer) }

    private static func mask(_ calls: Set<Call>) -> UInt32 { calls.reduce(0) { $0 | 1 << UInt32($1.rawValue) } }

    // MARK: Moments

    /// Operations that changed a file, or made a change durable.
    package var operationCount: UInt64 { faulty_disk_operation_count(disk) }

    /// Whether operations are written down, so that moments can be had again. From the start they are.
    package func record(_ isOn: Bool) { faulty_disk_record(disk, isOn ? 1 : 0) }

    /// Makes `other` what this disk was after so many operations, as a process that is killed leaves it.
    package func copy(after operations: UInt64, to other: FaultyFiles) { faulty_disk_copy(disk, operations, other.disk) }

    /// Makes `other` what a loss of power after so many operations may leave: by seed, each write that was not synced is kept,
    /// dropped, or torn.
    package func cut(after operations: UInt64, seed: UInt64, to other: FaultyFiles) {
        faulty_disk_cut(disk, operations, seed, other.disk)
    }

    /// All files by the last part of their names.
    package var contents: [String: [UInt8]] {
        var contents: [String: [UInt8]] = [:]
        for index in 0..<faulty_disk_file_count(disk) {
            var bytes: UnsafePointer<UInt8>?
            var count = 0
            guard let path = faulty_disk_file(disk, index, &bytes, &count) else { continue }
            contents[Self.lastPart(of: String(cString: path))] = Array(UnsafeBufferPointer(start: bytes, count: count))
        }
        return contents
    }

    private static func lastPart(of path: String) -> String {
        path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
    }

    /// Whether anybody has a file open. Nobody may when this disk is made another.
    package var isOpen: Bool { faulty_disk_open_file_count(disk) > 0 }
}
