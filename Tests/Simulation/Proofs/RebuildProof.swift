import ATProto
import Commands
import Crypto
import Engine
import EventLog
import Foundation
import Keys
import SQLiteStore

/// The log is the truth: actors write for a long while, then everything derived is thrown away and comes back byte for byte from the
/// log alone — also with every private key gone, and through rebuilds that were killed anywhere.
package enum RebuildProof {
    package struct Size: Sendable {
        package var actors: Int
        package var writes: Int
        package var kills: Int

        package init(actors: Int, writes: Int, kills: Int) {
            self.actors = actors
            self.writes = writes
            self.kills = kills
        }

        package static let small = Size(actors: 5, writes: 300, kills: 2)
        package static let full = Size(actors: 100, writes: 200_000, kills: 10)
    }

    package static let proof = Proof(
        name: "rebuild",
        claim: "projections and every exported repo come back from the log byte for byte, without keys and through kill -9",
        work: { directory in try await work(in: directory) }
    ) { request in
        try await run(request.small ? .small : .full, request)
    }

    package static func run(_ size: Size, _ request: ProofRequest) async throws -> ProofResult {
        let run = Run(size: size, seed: request.seed, directory: request.directory)
        let before = try await run.write()
        try await run.rebuildKept(before)
        try run.removeKeys()
        try await run.rebuildWithoutKeys(before)
        try await run.rebuildKilled(before)
        return ProofResult(counts: await run.report.counts, failures: await run.report.failures)
    }

    /// What must come back: the digest, and every repo's file by length and SHA-256.
    struct Picture: Hashable, Sendable {
        struct File: Hashable, Sendable {
            let bytes: Int
            let digest: [UInt8]
        }

        var digest: String
        var files: [DID: File]
        var rebuildSeconds = 0.0

        static func == (left: Picture, right: Picture) -> Bool { left.digest == right.digest && left.files == right.files }

        func hash(into hasher: inout Hasher) { hasher.combine(digest) }
    }

    /// What was done and what did not hold, from many tasks.
    actor Report {
        private(set) var counts: [(name: String, count: Int)] = []
        private(set) var failures: [String] = []

        func count(_ name: String, _ number: Int = 1) {
            if let index = counts.firstIndex(where: { $0.name == name }) {
                counts[index].count += number
            } else {
                counts.append((name, number))
            }
        }

        func fail(_ message: String) { failures.append(message) }
    }

    struct Run: Sendable {
        let size: Size
        let seed: UInt64
        let directory: String
        let report = Report()

        private func open(keys: Bool) async throws -> (deployment: SimulatedDeployment, store: LogStore) {
            try await RebuildProof.open(directory, seed: seed, keys: keys)
        }

        // MARK: Writing

        /// Writes the whole history, and compares it with what was asked for before anything is thrown away.
        func write() async throws -> Picture {
            let (deployment, store) = try await open(keys: true)
            defer { RebuildProof.close(deployment, store) }
            let actors = (0..<size.actors).map { $0 }
            try await withThrowingTaskGroup { group in
                for number in actors { group.addTask { try await history(of: number, deployment) } }
                try await group.waitForAll()
            }
            let statistics = try await store.statistics()
            await report.count("events", Int(statistics.events))
            let picture = try await RebuildProof.picture(of: deployment)
            let folded = try await deployment.engine.digestFromLog(of: nil, until: statistics.position)
            if folded.digest != picture.digest {
                await report.fail("the rows as they were written are not the fold of the log, seed \(seed)")
            }
            await report.count("repos compared", picture.files.count)
            return picture
        }

        /// One actor's writes: creates, updates and deletes, three in four alone in their commit, the others in batches.
        private func history(of number: Int, _ deployment: SimulatedDeployment) async throws {
            let did = SimulatedDeployment.actor(number)
            var generator = SeededGenerator(seed: seed &* 1_000_003 &+ UInt64(number))
            try await deployment.enroll(did)
            var model: [RecordPath: CID] = [:]
            var paths: [RecordPath] = []
            var left = size.writes / size.actors
            if number == 0 { left -= try await imported(into: did, deployment, &model, &paths) }
            var (events, created, updated, deleted) = (0, 0, 0, 0)
            while left > 0 {
                // As many records in batches as alone: so much for variety, and so little for the time that this takes.
                let count = Int.random(in: 0..<8, using: &generator) == 0 ? min(left, Int.random(in: 2...14, using: &generator)) : 1
                var writes: [RecordWrite] = []
                var named: Set<RecordPath> = []
                for _ in 0..<count {
                    let choice = Int.random(in: 0..<20, using: &generator)
                    if choice >= 12, let path = paths.randomElement(using: &generator), named.insert(path).inserted {
                        if choice >= 17 {
                            writes.append(.delete(in: path.collection, at: path.recordKey))
                            deleted += 1
                        } else {
                            writes.append(.put(record(deployment, path.collection, &generator), in: path.collection, at: path.recordKey))
                            updated += 1
                        }
                    } else {
                        let collection = choice % 4 == 0 ? NSID.note : .post
                        writes.append(.create(record(deployment, collection, &generator), in: collection))
                        created += 1
                    }
                }
                let receipt = try await deployment.write(did, writes)
                for (write, result) in zip(writes, receipt.results) {
                    if write.action == .create { paths.append(result.path) }
                    if write.action == .delete { paths.removeAll { $0 == result.path } }
                    model[result.path] = result.cid
                }
                events += 1
                left -= count
            }
            await report.count("record writes", created + updated + deleted)
            await report.count("creates", created)
            await report.count("updates", updated)
            await report.count("deletes", deleted)
            await report.count("commits", events)
            try await compare(did, model, deployment)
        }

        private func record(_ deployment: SimulatedDeployment, _ collection: NSID, _ generator: inout SeededGenerator) -> Value {
            let text = (0..<Int.random(in: 4...24, using: &generator)).map { _ in String(generator.next() >> 40, radix: 36) }
                .joined(separator: " ")
            let boundaries = ["engineering", "general", "design"].filter { _ in Int.random(in: 0..<3, using: &generator) == 0 }
            guard collection == .note else { return deployment.post(text, in: boundaries.isEmpty ? ["general"] : boundaries) }
            return ["text": .string(text), "number": .integer(Int64(generator.next() >> 40))]
        }

        /// The first actor begins with an import of two chunks.
        private func imported(
            into did: DID, _ deployment: SimulatedDeployment, _ model: inout [RecordPath: CID], _ paths: inout [RecordPath]
        ) async throws -> Int {
            let records = (0..<min(1200, size.writes / size.actors / 2)).map { number in
                (
                    path: RecordPath(collection: .note, recordKey: .tid(number)),
                    record: ["$type": "zone.stratos.test.note", "number": .integer(Int64(number))] as Value
                )
            }
            let file = try RepoFile.make(of: did, records, signedWith: PrivateKey.generate(.k256))
            let source = ImportSource(size: file.count) { offset, count in Array(file[offset..<offset + count]) }
            _ = try await deployment.engine.importRepo(
                source, into: did, options: ImportOptions(), by: deployment.agent(did), progress: { _, _ in })
            for record in records {
                model[record.path] = CID(hashing: DAGCBOR.encode(record.record))
                paths.append(record.path)
            }
            await report.count("record writes", records.count)
            await report.count("imported", records.count)
            return records.count
        }

        /// The exported file verifies with the actor's key and holds what was asked for.
        private func compare(_ did: DID, _ model: [RecordPath: CID], _ deployment: SimulatedDeployment) async throws {
            let file = try await RebuildProof.file(of: did, deployment)
            let key = try await deployment.engine.enrollment(of: did)?.signingKey
            let found = try RepoFile.read(file, key: key)
            if found.records != model || found.report.extra > 0 {
                await report.fail("the repo of \(did) holds \(found.records.count) records where \(model.count) were written, seed \(seed)")
            }
        }

        // MARK: Rebuilding

        private func expect(_ picture: Picture, _ before: Picture, _ name: String) async {
            if picture.digest != before.digest { await report.fail("\(name): another digest, seed \(seed)") }
            for (did, file) in before.files where picture.files[did] != file {
                await report.fail("\(name): another file for \(did), seed \(seed)")
            }
            await report.count("repos compared", picture.files.count)
        }

        func rebuildKept(_ before: Picture) async throws {
            let (deployment, store) = try await open(keys: true)
            defer { RebuildProof.close(deployment, store) }
            let dropped = try await deployment.engine.dropProjections()
            if dropped != size.actors { await report.fail("\(dropped) of \(size.actors) projections were there to be dropped") }
            let rebuilt = try await deployment.engine.rebuild(nil, progress: { _, _ in })
            if rebuilt.digest != before.digest { await report.fail("rebuilt: another digest, seed \(seed)") }
            await expect(try await RebuildProof.picture(of: deployment), before, "rebuilt")
            await report.count("rebuilds")
        }

        /// Every file below the directory that may hold a key.
        func removeKeys() throws {
            let files = FileManager.default.enumerator(atPath: directory)?.compactMap { $0 as? String } ?? []
            for file in files where file.hasSuffix("signing_key") { try FileManager.default.removeItem(atPath: directory + "/" + file) }
        }

        func rebuildWithoutKeys(_ before: Picture) async throws {
            let (deployment, store) = try await open(keys: false)
            defer { RebuildProof.close(deployment, store) }
            for number in 0..<size.actors where try deployment.files.signingKey(of: SimulatedDeployment.actor(number)) != nil {
                await report.fail("a key was left")
            }
            let rebuilt = try await deployment.engine.rebuild(nil, progress: { _, _ in })
            if rebuilt.digest != before.digest { await report.fail("rebuilt without keys: another digest, seed \(seed)") }
            await expect(try await RebuildProof.picture(of: deployment), before, "rebuilt without keys")
            await report.count("rebuilds without keys")
        }

        func rebuildKilled(_ before: Picture) async throws {
            guard let program = ProofWorker.program else {
                TestFiles.note("skipped: stratos-prove was not built beside this program, so no rebuild was killed")
                return
            }
            var generator = SeededGenerator(seed: seed ^ 0x6b11)
            var kills = 0
            for attempt in 0..<size.kills * 20 where kills < size.kills {
                let worker = try ProofWorker(program: program, proof: "rebuild", directory: directory)
                // After so many actors, and then a moment later: in the middle of one, most of the time.
                let target = Int.random(in: 0..<size.actors, using: &generator)
                while worker.isRunning, try worker.lines.count <= target { try await Task.sleep(for: .milliseconds(1)) }
                try await Task.sleep(for: .microseconds(Int.random(in: 0..<4_000, using: &generator)))
                let wasRunning = worker.isRunning
                worker.kill()
                guard wasRunning else { continue }  // It was faster.
                kills += 1
                // Every other time what is left is caught up with, not dropped.
                guard attempt % 2 == 0 else { continue }
                let (deployment, store) = try await open(keys: false)
                defer { RebuildProof.close(deployment, store) }
                await expect(try await RebuildProof.picture(of: deployment), before, "killed, then caught up")
                await report.count("caught up after a kill")
            }
            await report.count("kills", kills)
            if kills < size.kills { await report.fail("only \(kills) of \(size.kills) rebuilds could be killed before they were done") }
            let worker = try ProofWorker(program: program, proof: "rebuild", directory: directory)
            let isFinished = worker.finish()
            if try !isFinished || worker.lines.last != "digest \(before.digest)" {
                await report.fail("rebuilt after kills: another digest, seed \(seed)")
            }
            let (deployment, store) = try await open(keys: false)
            defer { RebuildProof.close(deployment, store) }
            await expect(try await RebuildProof.picture(of: deployment), before, "rebuilt after kills")
            await report.count("rebuilds after kills")
            let findings = await ChainVerifier(store, options: ChainVerifier.Options()).verify()
            if !findings.isWhole { await report.fail("the log: \(findings.findings.first.map { "\($0)" } ?? "")") }
        }
    }

    // MARK: What parent and child share

    private static func open(_ directory: String, seed: UInt64, keys: Bool) async throws -> (SimulatedDeployment, LogStore) {
        let store = try LogStore(directory: directory + "/log") { error in preconditionFailure("\(error)") }
        var options = SimulatedDeployment.Options(seed: seed)
        options.hasAuthority = keys
        options.openMax = 32
        return (try await SimulatedDeployment.open(store, in: directory, options: options), store)
    }

    private static func close(_ deployment: SimulatedDeployment, _ store: LogStore) {
        deployment.close()
        store.close()
    }

    private static func work(in directory: String) async throws {
        let (deployment, store) = try await open(directory, seed: 0, keys: false)
        // Not `print`, which keeps lines back when nobody watches.
        let say: @Sendable (String) throws -> Void = { try FileHandle.standardOutput.write(contentsOf: Data(($0 + "\n").utf8)) }
        let report = try await deployment.engine.rebuild(nil) { done, _ in try say("rebuilt \(done)") }
        try say("digest \(report.digest)")
        close(deployment, store)
    }

    private static func picture(of deployment: SimulatedDeployment) async throws -> Picture {
        var picture = Picture(digest: try await deployment.engine.digest(of: nil).digest, files: [:])
        var after: DID?
        while let did = try await deployment.log.actors(after: after, limit: 1).first {
            after = did
            guard did != (try deployment.service) else { continue }
            let file = try await file(of: did, deployment)
            picture.files[did] = Picture.File(bytes: file.count, digest: Array(SHA256.hash(data: file)))
        }
        return picture
    }

    /// The exported repo, as its owner gets it.
    static func file(of did: DID, _ deployment: SimulatedDeployment) async throws -> [UInt8] {
        guard let export = try await deployment.engine.exportRepo(of: did, to: .user(did)) else { return [] }
        var file: [UInt8] = []
        try await export.content.stream(from: deployment.engine) { file += $0 }
        return file
    }
}
