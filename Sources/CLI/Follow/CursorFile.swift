import ATProto
import Client
import Glibc

/// Where a stream is gone on with: one JSON object in a file that is replaced whole, so that a crash leaves the old one or the new.
struct CursorFile: Sendable {
    /// A commit of 2^20 operations with paths of their longest would be larger; then the file says so and is not believed.
    private static let bytesMax = 64 << 20

    let path: String
    let service: ServiceAddress
    let account: DID?

    /// - Returns: nil where there is no file yet.
    func read() throws(Problem) -> StreamPosition? {
        guard access(path, F_OK) == 0 else { return nil }
        let file = try InputFile(path: path)
        guard file.count <= Self.bytesMax else { throw invalid("more than \(Self.bytesMax) bytes") }
        let bytes = try file.read(at: 0, count: file.count)
        let limits = DecodingLimits(bytesMax: Self.bytesMax, depthMax: 4, countMax: 1 << 21, totalMax: 1 << 21)
        guard let value = try? DataModelJSON.decode(bytes, limits: limits) else { throw invalid("not a JSON object") }
        guard value["service"]?.stringValue == service.description, value["did"]?.stringValue == account?.description else {
            throw Problem(
                status: .usage, error: "OtherStream",
                message: "\(path) is the cursor of another stream: of \(value["did"]?.stringValue ?? "the enrollments") at "
                    + (value["service"]?.stringValue ?? "no service"))
        }
        return try position(value)
    }

    private func position(_ value: Value) throws(Problem) -> StreamPosition {
        var cursor: UInt64?
        if let number = value["cursor"] {
            guard let number = number.integerValue, 0...DataModelJSON.integerMax ~= number else { throw invalid("cursor") }
            cursor = UInt64(number)
        }
        guard let recent = value["recent"] else { return StreamPosition(cursor: cursor) }
        guard let rev = recent["rev"]?.stringValue.flatMap({ try? TID($0) }), let items = recent["paths"]?.arrayValue,
            let gaveCursor = recent["gaveCursor"]?.boolValue
        else { throw invalid("recent") }
        var paths: Set<String> = []
        for item in items {
            guard let path = item.stringValue else { throw invalid("recent.paths") }
            paths.insert(path)
        }
        return StreamPosition(
            cursor: cursor, recent: .init(rev: rev, paths: paths, gaveCursor: gaveCursor))
    }

    /// Durable on return.
    func write(_ position: StreamPosition) throws(Problem) {
        var object: ValueMap = ["service": .string(service.description)]
        if let account { object["did"] = .string(account.description) }
        if let cursor = position.cursor { object["cursor"] = .integer(Int64(cursor)) }
        if let recent = position.recent {
            object["recent"] = .map([
                "rev": .string(recent.rev.description), "paths": .array(recent.paths.sorted().map(Value.string)),
                "gaveCursor": .bool(recent.gaveCursor),
            ])
        }
        try replace(with: DataModelJSON.encode(.map(object)) + [UInt8(ascii: "\n")])
    }

    private func replace(with bytes: [UInt8]) throws(Problem) {
        let part = path + ".part"
        let descriptor = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failed("open", errno) }
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + written, bytes.count - written) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else {
                defer { close(descriptor) }
                throw failed("write", errno)
            }
            written += count
        }
        let isSynced = fsync(descriptor) == 0
        let code = errno
        guard close(descriptor) == 0, isSynced else { throw failed("fsync", code) }
        guard rename(part, path) == 0 else { throw failed("rename", errno) }
        try syncDirectory()
    }

    private func syncDirectory() throws(Problem) {
        let directory = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failed("open", errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw failed("fsync", errno) }
    }

    private func invalid(_ what: String) -> Problem {
        Problem(status: .inputOutput, error: "InvalidCursorFile", message: "\(path) is no cursor file: \(what)")
    }

    private func failed(_ operation: String, _ code: Int32) -> Problem {
        Problem(status: .inputOutput, error: "CursorFileFailed", message: "\(operation) \(path): \(String(cString: strerror(code)))")
    }
}
