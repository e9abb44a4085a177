import Foundation

/// A fresh directory, removed with everything in it when the last reference goes.
package final class ScratchDirectory: Sendable {
    package let path: String

    package init() throws {
        let url = FileManager.default.temporaryDirectory.appending(path: "stratos-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        path = url.path
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }  // best effort: the system empties its temporary directory too
}
