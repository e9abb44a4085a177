import ATProto
import Commands
import Crypto
import Engine
import EventLog
import Glibc
import Keys
import Logging
import NIOPosix
import SQLiteStore

/// A data directory that this process has open: the one place that picks a backend.
struct DataDirectory {
    /// What the process is to do with the directory.
    enum Purpose {
        /// Read, or fold the log again; needs no setting and no key, and begins nothing.
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
    /// Nil where nothing is kept for the reactors, or nobody needs it.
    let reactorStore: ReactorDatabase?

    /// - Parameter json: whether it is said as JSON when the log fails, which ends the program.
    static func open(_ settings: Settings, purpose: Purpose, json: Bool, logger: Logger) async throws -> DataDirectory {
        let path = settings.dataDirectory
        if access(path + "/" + LogStore.fileName, F_OK) != 0 {
            if purpose == .read { try refuseMissingLog(in: path) }
            // Asked here, so that nothing is left in a directory where nothing can begin.
            guard settings.missing.isEmpty else { throw Deployment.missing(settings.missing) }
        }
        let store: LogStore
        do throws(LogStoreError) {
            store = try LogStore(directory: path) { error in
                // A log that can no longer be trusted ends the process: nothing may be answered from here on.
                let message = "the log failed, the program ends: \(error)"
                Output.end(Problem(status: .inputOutput, error: "LogFailed", message: message), asJSON: json)
            }
        } catch {
            throw Problem(status: .inputOutput, error: "LogRefused", message: "\(error)", finding: error.fault)
        }
        do {
            return try await open(path, store: store, settings: settings, purpose: purpose, logger: logger)
        } catch {
            store.close()
            throw error
        }
    }

    private static func open(
        _ path: String, store: LogStore, settings: Settings, purpose: Purpose, logger: Logger
    ) async throws -> DataDirectory {
        let files = ActorDirectory(dataDirectory: path)
        let surroundings = Surroundings.ofThisMachine
        let authority: Authority? =
            if purpose == .read {
                nil
            } else {
                try await Authority.take(
                    over: store, deployment: try settings.deployment(), isStart: purpose == .serve, surroundings: surroundings,
                    key: { creates in try serviceKey(in: path, settings: settings, creates: creates) })
            }
        let reactorStore = try reactorStore(in: path, purpose: purpose, logger: logger)
        let actors = ActorDatabases(directory: files, openMax: Descriptors.actorFilesMax) { actor, error in
            // What was lost is folded from the log again; the disk may need a human.
            logger.error("damaged rows are made anew", metadata: ["actor": .string(actor.description), "error": "\(error)"])
        }
        let engine = Engine(
            log: store, readModel: actors,
            keys: ActorKeys(
                read: { try files.signingKey(of: $0) }, keep: { try files.keep($0, of: $1) }, remove: { try files.removeKey(of: $0) }),
            authority: authority, lexicons: .embedded, surroundings: surroundings, logger: logger, reactorStore: reactorStore)
        // A server does this beside its work; what else changes the log does it before.
        if purpose == .change { await engine.carryOutErasures() }
        return DataDirectory(
            path: path, engine: engine, authority: authority, store: store, actors: actors, reactorStore: reactorStore)
    }

    /// What the reactors keep: made by a server, looked at by what only reads, and of no concern to what changes the log: the next server
    /// reads from there.
    private static func reactorStore(in path: String, purpose: Purpose, logger: Logger) throws(Problem) -> ReactorDatabase? {
        do throws(SQLiteError) {
            switch purpose {
            case .serve: return try ReactorDatabase(directory: path)
            case .change: return nil
            case .read: return try ReactorDatabase.look(into: path)
            }
        } catch {
            guard purpose == .serve else {
                logger.warning("\(ReactorDatabase.fileName) cannot be read", metadata: ["error": "\(error)"])
                return nil
            }
            throw Problem(status: .inputOutput, error: "ServiceFileRefused", message: "\(error)")
        }
    }

    /// Reading makes no log where there is none, and does not mistake a lost one for none.
    private static func refuseMissingLog(in path: String) throws(Problem) {
        guard let remains = LogStore.companions.first(where: { access(path + "/" + $0, F_OK) == 0 }) else {
            throw Problem(status: .inputOutput, error: "NoLog", message: "\(path) holds no log")
        }
        let message = "\(path)/\(LogStore.fileName) is missing, and \(remains) beside it is not: restore the log from a backup"
        throw Problem(
            status: .inputOutput, error: "LogRefused", message: message,
            finding: Finding(file: LogStore.fileName, invariant: "storage", message: message))
    }

    /// What shows that the parts of the directory work.
    var probes: [(name: String, probe: @Sendable () async throws -> Void)] {
        let (store, files) = (store, ActorDirectory(dataDirectory: path))
        return [
            ("db", { _ = try await store.statistics() }),
            ("projections", { try await NIOThreadPool.singleton.runIfActive { try files.probe() } }),
        ]
    }

    /// What is to run beside a server.
    func housekeeping(_ logger: Logger) -> Housekeeping {
        Housekeeping(
            store: store, engine: engine, now: { Timestamp(milliseconds: Surroundings.ofThisMachine.now() / 1000) }, logger: logger)
    }

    /// Writes what waits and lets go of the directory.
    func close() {
        store.close()
        actors.close()
        reactorStore?.close()
    }

    /// The service's key: from the settings, or from `signing_key` in the directory, which is made where a new log may have a new key.
    private static func serviceKey(in path: String, settings: Settings, creates: Bool) throws -> PrivateKey? {
        if let hex = settings.signingKeyHex { return try PrivateKey(curve: .k256, rawBytes: Hex.decode(hex)) }
        let file = path + "/signing_key"
        do throws(KeysError) {
            if access(file, F_OK) == 0 { return try KeyFile.read(path: file, curve: .k256) }
            guard creates else { return nil }
            let key = PrivateKey.generate(.k256)
            try KeyFile.write(key, to: file)
            return key
        } catch {
            throw Problem(status: .inputOutput, error: "KeyFileRefused", message: "\(error)")
        }
    }
}

extension LogStoreError {
    /// What is wrong with the log; nil where it is the machine that refused, and nothing is known of the log.
    fileprivate var fault: Finding? {
        if case .storage(let error) = self, !error.isCorruption { return nil }
        return finding
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
            // In words: each asks the system, and a request needs dozens of bytes.
            var generator = SystemRandomNumberGenerator()
            var bytes: [UInt8] = []
            bytes.reserveCapacity(count + 8)
            while bytes.count < count { withUnsafeBytes(of: generator.next()) { bytes.append(contentsOf: $0) } }
            bytes.removeLast(bytes.count - count)
            return bytes
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
