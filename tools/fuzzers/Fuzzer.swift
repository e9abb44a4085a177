// The program that `tools/fuzz` builds with libFuzzer, from this folder, Tests/Simulation/Fuzz*.swift and the modules that they
// call. Its environment: STRATOS_FUZZ_TARGET names the target; STRATOS_FUZZ_CPU_SECONDS ends the run after so
// much processor time; STRATOS_FUZZ_VERBOSE has each input judged aloud.

import Glibc

private struct Run {
    var target: FuzzTarget
    var processorSecondsMax: Double
    /// Says of each input what became of it.
    var speaks = false
    var executions: UInt64 = 0
}

/// libFuzzer calls from one thread.
private nonisolated(unsafe) var run = Run(target: .dagCBOR, processorSecondsMax: .infinity)

@_cdecl("LLVMFuzzerInitialize")
public func initialize(_ count: UnsafeMutablePointer<Int32>, _ arguments: UnsafeMutableRawPointer) -> Int32 {
    if let directory = environment("STRATOS_FUZZ_SEEDS") {
        Seeds.write(to: directory)
        exit(0)
    }
    guard let name = environment("STRATOS_FUZZ_TARGET"), let target = FuzzTarget(rawValue: name) else {
        fail("STRATOS_FUZZ_TARGET is one of \(FuzzTarget.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    run.target = target
    run.processorSecondsMax = environment("STRATOS_FUZZ_CPU_SECONDS").flatMap(Double.init) ?? .infinity
    run.speaks = environment("STRATOS_FUZZ_VERBOSE") != nil
    return 0
}

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
    do {
        let accepted = try run.target.run(Array(UnsafeBufferPointer(start: start, count: count)))
        if run.speaks { report(accepted ? "accepted" : "refused") }
    } catch {
        report("invariant broken: \(error)")
        abort()
    }
    run.executions += 1
    // libFuzzer's own limit counts elapsed time, which on a shared machine says little. On this signal it ends with its figures.
    if run.executions.isMultiple(of: 256), processorSeconds() > run.processorSecondsMax { raise(SIGUSR1) }
    return 0
}

private func processorSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

private func environment(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
}

private func report(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    _ = write(STDERR_FILENO, bytes, bytes.count)  // best effort: there is nowhere else to say it
}

func fail(_ reason: String) -> Never {
    report(reason)
    exit(2)
}
