import ATProto
import Commands
import Crypto
import Engine
import EventLog
import Glibc
import Keys
import Logging
import SQLiteStore

/// A data directory that this process has open: the one place that picks a backend.
struct DataDirectory {
    /// What the process is to do with the directory.
    enum Purpose {
        /// Read; needs no setting and no key, and makes nothing.
        case read
        /// Change: takes up the service's key, and begins a log where there is none.
        case change
        /// Serve: as `change`, and says in the log that the service starts.
        case serve
    }

    let path: String
    let engine: Engine
    let authority: Authority?
    private let store: LogStore
    private let actors: ActorDatabases

    static func open(_ path: String, settings: Settings, purpose: Purpose, logger: Logger) async throws -> DataDirectory {
        if purpose == .read { try requireLog(in: path) }
        let store: LogStore
        do {
            store = try LogStore(directory: path) { error in
                // A log that can no longer be trusted ends the process: nothing may be answered from here on.
                Output.note("error: the log failed, the program ends: \(error)")
                exit(Problem.Status.inputOutput.rawValue)
            }
        } catch {
            throw Problem(status: .inputOutput, error: "LogRefused", message: "\(error)")
        }
        let files = ActorDirectory(dataDirectory: path)
        let actors = ActorDatabases(directory: files)
        let surroundings = Surroundings.ofThisMachine
        let authority: Authority? =
            if purpose == .read {
                nil
            } else {
                try await Authority.take(
                    over: store, deployment: try settings.deployment(), isStart: purpose == .serve, surroundings: surroundings,
                    key: { creates in try serviceKey(in: path, settings: settings, creates: creates) })
            }
        let engine = Engine(
            log: store, readModel: actors,
            keys: ActorKeys(read: { try files.signingKey(of: $0) }, keep: { try files.keep($0, of: $1) }), authority: authority,
            lexicons: .embedded, surroundings: surroundings, logger: logger)
        return DataDirectory(path: path, engine: engine, authority: authority, store: store, actors: actors)
    }

    /// Reading makes no log where there is none, and does not mistake a lost one for none.
    private static func requireLog(in path: String) throws(Problem) {
        guard access(path + "/" + LogStore.fileName, F_OK) != 0 else { return }
        guard let remains = LogStore.companions.first(where: { access(path + "/" + $0, F_OK) == 0 }) else {
            throw Problem(status: .inputOutput, error: "NoLog", message: "\(path) holds no log")
        }
        throw Problem(
            status: .inputOutput, error: "LogRefused",
            message: "\(path)/\(LogStore.fileName) is missing, and \(remains) beside it is not: restore the log from a backup")
    }

    /// Writes what waits and lets go of the directory.
    func close() {
        store.close()
        actors.close()
    }

    /// The service's key: from the settings, or from `signing_key` in the directory, which is made where a new log may have a new key.
    private static func serviceKey(in path: String, settings: Settings, creates: Bool) throws -> PrivateKey? {
        if let hex = settings.signingKeyHex { return try PrivateKey(curve: .k256, rawBytes: Hex.decode(hex)) }
        let file = path + "/signing_key"
        if access(file, F_OK) == 0 { return try KeyFile.read(path: file, curve: .k256) }
        guard creates else { return nil }
        let key = PrivateKey.generate(.k256)
        try KeyFile.write(key, to: file)
        return key
    }
}

extension Surroundings {
    static let ofThisMachine = Surroundings(
        now: {
            var time = timespec()
            clock_gettime(CLOCK_REALTIME, &time)
            return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
        },
        random: { count in
            var generator = SystemRandomNumberGenerator()
            return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        })
}

extension Settings {
    func deployment() throws -> Deployment {
        Deployment(
            serviceDID: serviceDID, allowedDomains: allowedDomains, autoEnrollDomains: autoEnrollDomains, missing: missing,
            version: Stratos.version, build: try Self.buildDigest())
    }

    /// SHA-256 of this program's file.
    private static func buildDigest() throws -> [UInt8] {
        let file = try InputFile(path: "/proc/self/exe")
        var hash = SHA256()
        var offset = 0
        while offset < file.count {
            let count = min(1 << 20, file.count - offset)
            hash.update(data: try file.read(at: offset, count: count))
            offset += count
        }
        return Array(hash.finalize())
    }
}

enum Hex {
    /// Digits in pairs; the settings let nothing else through.
    static func decode(_ text: String) -> [UInt8] {
        let digits = text.compactMap(\.hexDigitValue)
        return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
    }

    static func encode(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
