import Foundation
import Keys
import Testing

@Suite("Keys: key files")
struct KeysFileTests {
    @Test("a written key is 32 bytes that only the owner can read, and comes back", arguments: Curve.allCases)
    func roundTrip(curve: Curve) throws {
        try Self.withDirectory { directory in
            let path = directory + "/signing.key"
            let key = PrivateKey.generate(curve)
            try KeyFile.write(key, to: path)
            #expect(try Self.mode(of: path) == 0o600)
            #expect(try Data(contentsOf: URL(filePath: path)).count == 32)
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["signing.key"])
            let read = try KeyFile.read(path: path, curve: curve)
            #expect(read.publicKey == key.publicKey)
            #expect(try read.sign([1, 2, 3]) == key.sign([1, 2, 3]))
        }
    }

    @Test("an Ed25519 seed comes back")
    func edwards() throws {
        try Self.withDirectory { directory in
            let path = directory + "/checkpoint.key"
            let key = try Ed25519PrivateKey.generate()
            try KeyFile.write(key, to: path)
            #expect(try Self.mode(of: path) == 0o600)
            #expect(try KeyFile.readEd25519(path: path).publicKey == key.publicKey)
        }
    }

    @Test("nothing is ever replaced: a file, a directory, a link that leads nowhere; and no temporary file stays")
    func noReplacement() throws {
        try Self.withDirectory { directory in
            let key = PrivateKey.generate(.p256)
            let (file, folder, link) = (directory + "/file", directory + "/folder", directory + "/link")
            try Data("what was there".utf8).write(to: URL(filePath: file))
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
            try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: directory + "/nowhere")
            for path in [file, folder, link] {
                #expect(throws: KeysError.file(path: path, .exists)) { try KeyFile.write(key, to: path) }
            }
            #expect(try Data(contentsOf: URL(filePath: file)) == Data("what was there".utf8))
            #expect(Set(try FileManager.default.contentsOfDirectory(atPath: directory)) == ["file", "folder", "link"])
        }
    }

    @Test(
        "a file that others may read or write is refused with the command that puts it right",
        arguments: [0o640, 0o604, 0o620, 0o666, 0o601])
    func openToOthers(mode: Int) throws {
        try Self.withDirectory { directory in
            let path = directory + "/it's mine"
            try KeyFile.write(.generate(.k256), to: path)
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
            let error = #expect(throws: KeysError.file(path: path, .openToOthers(mode: UInt32(mode)))) {
                try KeyFile.read(path: path, curve: .k256)
            }
            let text = "\(try #require(error))"
            #expect(text.contains("chmod 600 '\(directory)/it'\\''s mine'"))
            #expect(text.contains(String(mode, radix: 8)))
            try FileManager.default.setAttributes([.posixPermissions: 0o400], ofItemAtPath: path)
            _ = try KeyFile.read(path: path, curve: .k256)
        }
    }

    @Test("a missing file, a link, a directory, a pipe and a wrong length are each refused by name")
    func wrongFiles() throws {
        try Self.withDirectory { directory in
            let path = directory + "/key"
            #expect(throws: KeysError.file(path: path, .missing)) { try KeyFile.read(path: path, curve: .p256) }
            #expect(throws: KeysError.file(path: directory, .notAFile)) { try KeyFile.read(path: directory, curve: .p256) }
            try KeyFile.write(.generate(.p256), to: path)
            let link = directory + "/link"
            try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: path)
            #expect(throws: KeysError.file(path: link, .symbolicLink)) { try KeyFile.read(path: link, curve: .p256) }
            let pipe = directory + "/pipe"
            #expect(mkfifo(pipe, 0o600) == 0)
            #expect(throws: KeysError.file(path: pipe, .notAFile)) { try KeyFile.read(path: pipe, curve: .p256) }
            for count in [0, 31, 33, 64, 5000] {
                let other = directory + "/\(count)"
                try Data(repeating: 1, count: count).write(to: URL(filePath: other))
                try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: other)
                #expect(throws: KeysError.file(path: other, .wrongLength(count))) { try KeyFile.read(path: other, curve: .p256) }
            }
        }
    }

    @Test("32 bytes that are no key of the curve are refused")
    func notAKey() throws {
        try Self.withDirectory { directory in
            let path = directory + "/zeros"
            try Data(repeating: 0, count: 32).write(to: URL(filePath: path))
            try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
            for curve in Curve.allCases {
                #expect(throws: KeysError.invalidScalar(curve)) { try KeyFile.read(path: path, curve: curve) }
            }
        }
    }

    @Test("a directory that does not exist and a path with a zero byte are errors")
    func wrongPaths() throws {
        try Self.withDirectory { directory in
            let key = PrivateKey.generate(.p256)
            let path = directory + "/absent/key"
            #expect(throws: KeysError.file(path: path, .missing)) { try KeyFile.write(key, to: path) }
            for path in [directory + "/a\0b", ""] {
                #expect(throws: KeysError.self) { try KeyFile.write(key, to: path) }
                #expect(throws: KeysError.self) { try KeyFile.read(path: path, curve: .p256) }
            }
            let names = try FileManager.default.contentsOfDirectory(atPath: directory)
            #expect(names.isEmpty)
        }
    }

    private static func mode(of path: String) throws -> Int? {
        try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    }

    private static func withDirectory(_ body: (String) throws -> Void) throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "keys-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try body(directory)
    }
}
