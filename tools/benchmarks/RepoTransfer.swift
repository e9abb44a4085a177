import ATProto
import Engine
import Foundation
import Glibc
import Simulation

/// A repo of 100,000 posts into the service and out of it, by the program's own commands.
enum RepoTransfer {
    static func figures(_ request: BenchmarkRequest) async throws -> [Figure] {
        let records = request.size(100_000, quick: 1000)
        let actor = try OpenDirectory.actors(1, seed: request.seed)[0]
        let directory = try await OpenDirectory(request.directory)
        try await directory.enroll([actor])
        directory.close()
        let path = request.directory + "/repo.car"
        try Data(StratosRepo(of: actor, posts: records, seed: request.seed).file).write(to: URL(filePath: path))

        let program = ChildProcess.path(of: "stratos")
        let environment = ServedDirectory.environment(request.directory)
        let quiet = open("/dev/null", O_WRONLY | O_CLOEXEC)
        defer { close(quiet) }
        let wall = Clocks.wall()
        let usage = try ChildProcess(
            program, ["import", actor.description, path, "--json"], environment: environment, output: quiet
        ).wait()
        let seconds = Clocks.wall() - wall
        var figures = [
            Figure("import, records", Double(records) / seconds, .perSecond, .atLeast(50_000)),
            Figure("import, processor", usage.processorSeconds / seconds, .cores),
            Figure("import, peak memory", Double(usage.peakMemory) / 1e6, .megabytes),
        ]
        var best: [Figure] = []
        for _ in 0..<request.size(3, quick: 1) {
            let export = try export(actor, program, environment, records: records)
            if best.isEmpty || export[0].value > best[0].value { best = export }
        }
        figures += best
        return figures
    }

    /// The export is read from a pipe as it comes, and verified afterwards.
    private static func export(_ actor: DID, _ program: String, _ environment: [String: String], records: Int) throws -> [Figure] {
        var pipe: [Int32] = [0, 0]
        guard Glibc.pipe(&pipe) == 0 else { throw BenchmarkFailure("pipe: \(String(cString: strerror(errno)))") }
        for end in pipe { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }  // Or the child would hold its own output open.
        defer { close(pipe[0]) }
        let wall = Clocks.wall()
        let process = try ChildProcess(program, ["export", actor.description], environment: environment, output: pipe[1])
        close(pipe[1])
        var file: [UInt8] = []
        var peak = 0
        file.reserveCapacity(128 << 20)
        try withUnsafeTemporaryAllocation(byteCount: 1 << 20, alignment: 8) { buffer in
            while true {
                let count = read(pipe[0], buffer.baseAddress, buffer.count)
                guard count >= 0 else { throw BenchmarkFailure("read: \(String(cString: strerror(errno)))") }
                if count == 0 { break }
                if file.count >> 22 != (file.count + count) >> 22 { peak = max(peak, try process.peakMemory()) }
                file.append(contentsOf: buffer[..<count])
            }
        }
        let usage = try process.wait()
        let seconds = Clocks.wall() - wall
        var verifier = RepoVerifier(key: nil)
        try file.withUnsafeBytes { try verifier.push($0) }
        guard case .done(let report) = try verifier.finish(), report.records == records else {
            throw BenchmarkFailure("the export is not a streamable file of \(records) records")
        }
        return [
            Figure("export, records", Double(records) / seconds, .perSecond, .atLeast(200_000)),
            Figure("export, processor", usage.processorSeconds / seconds, .cores),
            Figure("export, peak memory", Double(max(peak, usage.peakMemory)) / 1e6, .megabytes),
        ]
    }
}
