import Glibc
import Simulation

/// The least that a durable write can cost here: 4 KiB overwritten and synced in each of two files, again and again, as a commit
/// syncs the log and its mark.
struct BareSync {
    private let files: [Int32]
    private let page = [UInt8](repeating: 0x5A, count: 4096)

    init(directory: String) throws {
        files = ["one", "two"].map { open("\(directory)/bare-\($0)", O_RDWR | O_CREAT | O_CLOEXEC, 0o600) }
        for file in files {
            guard file >= 0, pwrite(file, page, page.count, 0) == page.count, fsync(file) == 0 else { throw Failure(code: errno) }
        }
    }

    func close() { for file in files { Glibc.close(file) } }

    /// - Returns: pairs of syncs a second.
    func rate(seconds: Double) throws -> Double {
        let start = Clocks.wall()
        var pairs = 0
        while Clocks.wall() - start < seconds {
            for file in files {
                guard pwrite(file, page, page.count, 0) == page.count, fdatasync(file) == 0 else { throw Failure(code: errno) }
            }
            pairs += 1
        }
        return Double(pairs) / (Clocks.wall() - start)
    }

    struct Failure: Error { let code: Int32 }
}
