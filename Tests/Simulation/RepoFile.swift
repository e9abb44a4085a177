package import ATProto
package import EventLog
package import Keys

/// A repo in a CAR file, made of records that a test chooses.
package enum RepoFile {
    /// - Parameter key: signs the commit.
    package static func make(of did: DID, _ records: [(path: RecordPath, record: Value)], signedWith key: PrivateKey) throws -> [UInt8] {
        let blocks = records.map { RepoSample.Block(DAGCBOR.encode($0.record)) }
        var tree = MST()
        for (record, block) in zip(records, blocks) {
            try tree.insert(MSTKey(collection: record.path.collection, recordKey: record.path.recordKey), block.cid)
        }
        let rev = TID(microseconds: 1_690_000_000_000_000, clockID: 7)
        let signature = try key.sign(Commit.unsignedBytes(did: did, data: tree.root(), rev: rev))
        let commit = RepoSample.Block(Commit(did: did, data: tree.root(), rev: rev, signature: signature).block)
        let nodes = tree.takeChanges().added.map { RepoSample.Block($0.bytes) }
        return RepoSample.car(root: commit.cid, [commit] + nodes + blocks)
    }

    /// The records of a repo's file by path, once the file is verified.
    /// - Parameter key: that the commit must be signed with.
    package static func read(_ file: [UInt8], key: PublicKey?) throws -> (report: RepoReport, records: [RecordPath: CID]) {
        let report = try RepoVerifier.verify(file, key: key)
        let (_, blocks) = try CARReader.read(file)
        let table = Dictionary(blocks.map { ($0.cid, $0.bytes) }) { first, _ in first }
        var records: [RecordPath: CID] = [:]
        var items = MST(root: report.data) { (cid) throws(MSTError) in table[cid] }.nodes()
        while let item = try items.next() {
            if case .record(let key, let cid) = item, let path = RecordPath(key.description) { records[path] = cid }
        }
        return (report, records)
    }
}
