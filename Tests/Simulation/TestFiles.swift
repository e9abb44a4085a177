package import Foundation

/// Where tests find what they read: the tree's own `Fixtures/`, and the vectors that are handed over beside the checkout.
package enum TestFiles {
    /// The root of the checkout.
    package static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    package static func fixture(_ path: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: root.appending(path: "Fixtures").appending(path: path)))
    }

    /// `../shared`, or nil where the checkout stands alone.
    package static var shared: URL? {
        let url = root.deletingLastPathComponent().appending(path: "shared").standardizedFileURL
        return FileManager.default.fileExists(atPath: url.path) ? url : nil
    }

    /// The bytes of a published vector file such as `interop/syntax/did_syntax_valid.txt`, or nil with a printed reason.
    package static func published(_ path: String) throws -> [UInt8]? {
        guard let shared else {
            note("skipped: ../shared is not beside this checkout, so \(path) was not read")
            return nil
        }
        return [UInt8](try Data(contentsOf: shared.appending(path: path)))
    }

    /// The lines of a published text file that hold a case: no comments, no blank lines. Leading and trailing spaces are kept.
    package static func publishedLines(_ path: String) throws -> [String]? {
        guard let bytes = try published(path) else { return nil }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init).filter { !$0.isEmpty && !$0.hasPrefix("#") }
    }

    /// Prints one line for the summary of `tools/test`: which vectors were run, and how many agreed.
    package static func report(vectors name: String, passed: Int, of total: Int) {
        note("vectors \(name): \(passed) of \(total) passed")
    }

    /// The seed of this run: `STRATOS_TEST_SEED`, or a fresh random one. Printed, so that a failure can be run again.
    package static let seed: UInt64 = {
        let seed =
            ProcessInfo.processInfo.environment["STRATOS_TEST_SEED"].flatMap(UInt64.init) ?? UInt64.random(in: 1...UInt64(UInt32.max))
        note("seed \(seed) (run again with STRATOS_TEST_SEED=\(seed))")
        return seed
    }()

    /// One line to standard error, where the test runner writes too: a buffered line would land in the middle of one of its own.
    package static func note(_ line: String) {
        FileHandle.standardError.write(Data((line + "\n").utf8))
    }
}
