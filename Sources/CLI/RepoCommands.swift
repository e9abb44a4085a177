import ATProto
import ArgumentParser
import Keys

/// `stratos repo`: looks at repositories in CAR files. Each subcommand verifies a whole file before it believes it.
struct RepoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "repo",
        abstract: "Inspects, verifies and compares repositories in CAR files.",
        discussion: "Exit status: 0 fine, 1 the file is refused, 2 wrong usage, 3 a file could not be read.",
        subcommands: [RepoInspectCommand.self, RepoVerifyCommand.self, RepoDiffCommand.self])
}

struct RepoVerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Checks every byte of a repository: framing, hashes, commit, tree and records.",
        discussion: "Without --key the signature is not checked: the file does not say whose key it should be.")

    @Argument(help: "A CAR file; any order of blocks, duplicates and extra blocks are accepted.")
    var file: String

    @Option(help: "The account's key as did:key:…; the commit must be signed with it.")
    var key: String?

    @Flag(help: "Print one JSON object.")
    var json = false

    func run() throws {
        try Output.reporting(asJSON: json) {
            let key = try key.map(Self.parse)
            let (report, _) = try RepoFile(path: file).verify(key: key, json: json)
            if json {
                try Output.printJSON(.map(report.json(file: file)))
            } else {
                try Output.print(report.lines.joined(separator: "\n"))
            }
        }
    }

    private static func parse(_ didKey: String) throws(Problem) -> PublicKey {
        do {
            return try PublicKey(didKey: didKey)
        } catch {
            throw Problem(status: .usage, error: "InvalidKey", message: "--key \(didKey) is not a did:key of P-256 or secp256k1: \(error)")
        }
    }
}

struct RepoInspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "Shows what a repository holds: its header, its commit, its records by collection.")

    @Argument(help: "A CAR file.")
    var file: String

    @Flag(help: "Print one JSON object.")
    var json = false

    func run() throws {
        try Output.reporting(asJSON: json) {
            var collections: [(name: String, records: Int, bytes: Int)] = []
            let (report, _) = try RepoFile(path: file).verify(key: nil, json: json) { record in
                // Records come in key order, so those of a collection are neighbours.
                let name = record.key.collection
                if collections.last?.name != name { collections.append((name, 0, 0)) }
                collections[collections.count - 1].records += 1
                collections[collections.count - 1].bytes += record.count
            }
            if json {
                var object = report.json(file: file)
                object["collections"] = .map(
                    collections.reduce(into: ValueMap()) { map, collection in
                        map[collection.name] = .map([
                            "records": .integer(Int64(collection.records)), "bytes": .integer(Int64(collection.bytes)),
                        ])
                    })
                try Output.printJSON(.map(object))
            } else {
                try Output.print(report.lines.joined(separator: "\n"))
                if !collections.isEmpty { try Output.print("\n" + Self.table(collections)) }
            }
        }
    }

    private static func table(_ collections: [(name: String, records: Int, bytes: Int)]) -> String {
        var rows: [[String]] = [["collection", "records", "bytes"]]
        var (records, bytes) = (0, 0)
        for collection in collections {
            rows.append([collection.name, Output.grouped(collection.records), Output.grouped(collection.bytes)])
            records += collection.records
            bytes += collection.bytes
        }
        rows.append(["all", Output.grouped(records), Output.grouped(bytes)])
        let widths = (0..<3).map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            row[0] + padding(row[0], widths[0]) + "  " + padding(row[1], widths[1]) + row[1] + "  " + padding(row[2], widths[2]) + row[2]
        }.joined(separator: "\n")
    }

    private static func padding(_ text: String, _ width: Int) -> String { String(repeating: " ", count: width - text.count) }
}

struct RepoDiffCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff",
        abstract: "Lists the records that differ between two repositories.",
        discussion: "Both files are verified first. Lines begin with + (created), ~ (updated) or - (deleted), in key order.")

    @Argument(help: "The CAR file before.")
    var before: String

    @Argument(help: "The CAR file after.")
    var after: String

    @Flag(help: "Print one JSON object.")
    var json = false

    func run() throws {
        try Output.reporting(asJSON: json) {
            let before = try RepoFile(path: before)
            let after = try RepoFile(path: after)
            let (beforeReport, beforeTree) = try before.verify(key: nil, json: json)
            let (afterReport, afterTree) = try after.verify(key: nil, json: json)
            let differences = try Self.diff(from: beforeTree, to: afterTree)
            if json {
                try Output.printJSON(.map(Self.json(differences, from: beforeReport, to: afterReport)))
            } else {
                try Output.print(Self.lines(differences, from: beforeReport, to: afterReport).joined(separator: "\n"))
            }
        }
    }

    private static func diff(from before: MST, to after: MST) throws(Problem) -> [MSTDifference] {
        do throws(MSTError) {
            return try MST.diff(from: before, to: after)
        } catch {
            // Both trees were verified a moment ago, so this is the disk, or somebody writing to a file.
            throw Problem(status: .inputOutput, error: "FileChanged", message: "\(error)")
        }
    }

    private static func lines(_ differences: [MSTDifference], from before: RepoReport, to after: RepoReport) -> [String] {
        var (created, updated, deleted) = (0, 0, 0)
        var lines: [String] = []
        for difference in differences {
            switch difference {
            case .created(let key, let cid):
                created += 1
                lines.append("+ \(key) \(cid)")
            case .updated(let key, let old, let new):
                updated += 1
                lines.append("~ \(key) \(old) -> \(new)")
            case .deleted(let key, let cid):
                deleted += 1
                lines.append("- \(key) \(cid)")
            }
        }
        if before.did != after.did { lines.append("two accounts: \(before.did), \(after.did)") }
        lines.append("\(Output.grouped(created)) created, \(Output.grouped(updated)) updated, \(Output.grouped(deleted)) deleted")
        return lines
    }

    private static func json(_ differences: [MSTDifference], from before: RepoReport, to after: RepoReport) -> ValueMap {
        var (created, updated, deleted): ([Value], [Value], [Value]) = ([], [], [])
        for difference in differences {
            let key = Value.string(difference.key.description)
            switch difference {
            case .created(_, let cid): created.append(.map(["key": key, "cid": .string(cid.description)]))
            case .updated(_, let old, let new):
                updated.append(.map(["key": key, "from": .string(old.description), "to": .string(new.description)]))
            case .deleted(_, let cid): deleted.append(.map(["key": key, "cid": .string(cid.description)]))
            }
        }
        return [
            "from": .map(["did": .string(before.did.description), "commit": .string(before.commit.description)]),
            "to": .map(["did": .string(after.did.description), "commit": .string(after.commit.description)]),
            "created": .array(created), "updated": .array(updated), "deleted": .array(deleted),
        ]
    }
}

/// A CAR file on disk, read once from start to end and then by place.
struct RepoFile {
    private let file: InputFile

    init(path: String) throws(Problem) { file = try InputFile(path: path) }

    /// Verifies the repository.
    /// - Parameter visit: each record in key order, before all is verified.
    /// - Returns: what it is, and its tree, whose nodes are read from the file when they are asked for.
    func verify(
        key: PublicKey?, json: Bool, visit: ((RepoRecord) -> Void)? = nil
    ) throws(Problem) -> (report: RepoReport, tree: MST) {
        var verifier = RepoVerifier(key: key, visit: visit)
        var progress = ProgressBar(file.path, total: file.count, json: json)
        do {
            try push(into: &verifier, &progress)
            var step = try verifier.finish()
            while true {
                switch step {
                case .read(let offset, let count):
                    progress.advance(to: file.count, "\(Output.grouped(verifier.records)) records")
                    step = try verifier.answer(try file.read(at: offset, count: count))
                case .done(let report):
                    return (report, tree(report.data, places: verifier.places))
                }
            }
        } catch let problem as Problem {
            throw problem
        } catch let error as RepoError {
            throw Problem(status: .refused, error: error.name, message: "\(file.path): \(error)")
        } catch {
            preconditionFailure("a verifier refuses, a file fails: \(error)")
        }
    }

    private func push(into verifier: inout RepoVerifier, _ progress: inout ProgressBar) throws {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 16)
        defer { buffer.deallocate() }
        var offset = 0
        while true {
            let count = try file.read(at: offset, into: buffer)
            guard count > 0 else { return }
            try verifier.push(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            offset += count
            progress.advance(to: offset, "\(Output.grouped(verifier.blocks)) blocks")
        }
    }

    private func tree(_ root: CID, places: RepoPlaces) -> MST {
        let file = file
        return MST(root: root) { (cid) throws(MSTError) in
            guard let place = places.place(of: cid) else { return nil }
            do throws(Problem) {
                return try file.read(at: place.offset, count: place.count)
            } catch {
                throw .unreadableBlock(cid, reason: error.message)
            }
        }
    }
}

extension RepoReport {
    fileprivate var lines: [String] {
        [
            "repository  \(did), version \(version)",
            "commit      \(commit)",
            "rev         \(rev?.description ?? "none")",
            "data        \(data)",
            "prev        \(head.prev?.description ?? "none")",
            "signature   \(signature.rawValue)",
            "records     \(Output.grouped(records)) in \(Output.grouped(nodes)) nodes",
            "blocks      \(Output.grouped(blocks)), of them \(Output.grouped(duplicates)) duplicates and \(Output.grouped(extra)) extra",
            "file        \(Output.grouped(bytes)) bytes",
        ]
    }

    fileprivate func json(file: String) -> ValueMap {
        [
            "file": .string(file), "car": .map(["version": .integer(1), "roots": .array([.string(commit.description)])]),
            "did": .string(did.description), "version": .integer(Int64(version)), "commit": .string(commit.description),
            "rev": rev.map { .string($0.description) } ?? .null, "data": .string(data.description),
            "prev": head.prev.map { .string($0.description) } ?? .null, "signature": .string(signature.rawValue),
            "records": .integer(Int64(records)), "nodes": .integer(Int64(nodes)), "blocks": .integer(Int64(blocks)),
            "duplicates": .integer(Int64(duplicates)), "extra": .integer(Int64(extra)), "bytes": .integer(Int64(bytes)),
        ]
    }
}
