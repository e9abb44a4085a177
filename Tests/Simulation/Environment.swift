import Foundation

/// What a figure depends on beside the code: printed with every proof and every benchmark, because a rate without its
/// disk and its machine says nothing.
package struct Environment: Sendable {
    package var machine: String
    package var commit: String
    package var build: String
    package var directory: String
    package var fileSystem: String
    /// Median time of one 4 KiB overwrite with `fdatasync` in `directory`, in microseconds; nil where it was refused.
    package var fdatasyncMicroseconds: Double?

    /// Looks at this machine and at the file system of `directory`, which must exist. Takes about 0.1 s, more on slow disks.
    ///
    /// The commit comes from `STRATOS_COMMIT`, which the scripts in `tools/` set: a program cannot know its own tree.
    package init(directory: String) {
        self.machine = Self.machine()
        self.commit = ProcessInfo.processInfo.environment["STRATOS_COMMIT"] ?? "unknown"
        #if DEBUG
            self.build = "debug"
        #else
            self.build = "release"
        #endif
        self.directory = directory
        self.fileSystem = Self.fileSystem(of: directory)
        self.fdatasyncMicroseconds = Self.fdatasyncMedian(in: directory)
    }

    package func write(into object: inout JSONObject) {
        object["commit"] = .text(commit)
        object["build"] = .text(build)
        object["machine"] = .text(machine)
        object["fileSystem"] = .text(fileSystem)
        object["fdatasyncMicroseconds"] = fdatasyncMicroseconds.map { .decimal($0, places: 1) } ?? .null
    }

    /// Peak resident memory of this process since its start, in bytes.
    package static func peakMemory() -> Int {
        var usage = rusage()
        guard getrusage(RUSAGE_SELF.rawValue, &usage) == 0 else { return 0 }
        return Int(usage.ru_maxrss) * 1024
    }

    private static func machine() -> String {
        let cores = sysconf(Int32(_SC_NPROCESSORS_ONLN))
        let memory = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE)) / (1 << 30)
        let processor = field("model name", of: "/proc/cpuinfo") ?? "unknown processor"
        var name = utsname()
        _ = uname(&name)
        let release = withUnsafeBytes(of: name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        return "\(processor), \(cores) cores, \(memory) GiB, Linux \(release)"
    }

    /// The first value of a `/proc` file of `name : value` lines.
    private static func field(_ name: String, of path: String) -> String? {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return nil }
        guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix(name) }) else { return nil }
        return line.split(separator: ":", maxSplits: 1).last.map { $0.trimmingCharacters(in: .whitespaces) }
    }

    /// The type of the mount that holds `directory`, by `/proc/self/mountinfo` (proc(5)): `statfs` is not in Swift's Glibc module.
    private static func fileSystem(of directory: String) -> String {
        guard let resolved = realpath(directory, nil) else { return "unknown (errno \(errno))" }
        defer { free(resolved) }
        let path = String(cString: resolved)
        guard let text = try? String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8) else { return "unknown" }
        var best = (mountPoint: "", type: "unknown")
        for line in text.split(separator: "\n") {
            let halves = line.split(separator: " - ", maxSplits: 1)
            guard halves.count == 2, let type = halves[1].split(separator: " ").first else { continue }
            let fields = halves[0].split(separator: " ")
            guard fields.count > 4 else { continue }
            let mountPoint = String(fields[4])
            let holds = mountPoint == "/" || path == mountPoint || path.hasPrefix(mountPoint + "/")
            // Of two mounts at one place the later line is the one that is seen.
            if holds, mountPoint.count >= best.mountPoint.count { best = (mountPoint, String(type)) }
        }
        return best.type
    }

    private static func fdatasyncMedian(in directory: String) -> Double? {
        let path = directory + "/fdatasync-probe"
        let file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { return nil }
        defer {
            close(file)
            unlink(path)
        }
        let page = [UInt8](repeating: 0x5A, count: 4096)
        guard pwrite(file, page, page.count, 0) == page.count, fsync(file) == 0 else { return nil }
        var times: [Double] = []
        for _ in 0..<200 {
            let start = Clocks.wall()
            guard pwrite(file, page, page.count, 0) == page.count, fdatasync(file) == 0 else { return nil }
            times.append(Clocks.wall() - start)
        }
        return times.sorted()[times.count / 2] * 1e6
    }
}

/// Seconds since an arbitrary moment: elapsed time, and the processor time of this process over all its threads.
package enum Clocks {
    package static func wall() -> Double { seconds(of: CLOCK_MONOTONIC) }
    package static func processor() -> Double { seconds(of: CLOCK_PROCESS_CPUTIME_ID) }

    private static func seconds(of clock: clockid_t) -> Double {
        var time = timespec()
        clock_gettime(clock, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
