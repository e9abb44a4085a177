package import ATProto

/// `erasure`: it is decided that bytes go. Chain and signatures stay whole, since they cover CIDs of salted bodies.
package struct Erasure: Hashable, Sendable {
    package enum Scope: Hashable, Sendable {
        /// The records' bytes go; their CIDs stay in the bodies.
        case content([Target])
        /// The bodies go too; what remains of each is here, in order of its number.
        case trace([Target], [Residue])
        /// Everything of the actor up to this event goes but the events themselves.
        case actor
    }

    /// One operation of a `repo.write` or `repo.import` of this log.
    package struct Target: Hashable, Comparable, Sendable {
        package let sequence: UInt64
        /// From 0; in an import counted over all chunks.
        package let operation: UInt64

        package init(sequence: UInt64, operation: UInt64) {
            self.sequence = sequence
            self.operation = operation
        }

        package static func < (left: Target, right: Target) -> Bool {
            (left.sequence, left.operation) < (right.sequence, right.operation)
        }
    }

    /// What a fold reads in place of an erased body.
    package struct Residue: Hashable, Sendable {
        package enum Operations: Hashable, Sendable {
            /// Of a write: nil in the place of each erased operation.
            case written([RecordOperation?])
            /// Of an import: new chunks, with null in the place of each erased operation.
            case imported([CID])
        }

        package let sequence: UInt64
        package let commit: ActorCommit
        package let operations: Operations

        package init(sequence: UInt64, commit: ActorCommit, operations: Operations) {
            self.sequence = sequence
            self.commit = commit
            self.operations = operations
        }
    }

    package let provenance: Provenance
    package let scope: Scope
    package let reason: String

    package static let targetsMax = 10_000

    /// - Throws: `malformed` where targets or residue are empty, not in order, or do not belong together.
    package init(provenance: Provenance, scope: Scope, reason: String) throws(EventLogError) {
        self.provenance = provenance
        self.scope = scope
        self.reason = reason
        try check()
    }

    private enum ScopeName: String { case content, trace, actor }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        scope =
            switch try fields.choice("scope", ScopeName.self) {
            case .content: .content(try fields.targets())
            case .trace: .trace(try fields.targets(), try fields.residue())
            case .actor: .actor
            }
        reason = try fields.reason()
        try check()
    }

    private func check() throws(EventLogError) {
        let targets: [Target], residue: [Residue]?
        switch scope {
        case .actor: return
        case .content(let list): (targets, residue) = (list, nil)
        case .trace(let list, let remains): (targets, residue) = (list, remains)
        }
        guard (1...Erasure.targetsMax).contains(targets.count), zip(targets, targets.dropFirst()).allSatisfy(<) else {
            throw .malformed("erasure: targets: 1 to \(Erasure.targetsMax), in order, each once")
        }
        guard let residue else { return }
        var sequences: [UInt64] = []
        for target in targets where sequences.last != target.sequence { sequences.append(target.sequence) }
        guard residue.map(\.sequence) == sequences else {
            throw .malformed("erasure: residue: one for each event that the targets name, in their order")
        }
    }

    func encode(into map: inout ValueMap) {
        map["reason"] = .string(reason)
        switch scope {
        case .content(let targets):
            map["scope"] = .string(ScopeName.content.rawValue)
            map["targets"] = .array(targets.map { $0.encoded() })
        case .trace(let targets, let residue):
            map["scope"] = .string(ScopeName.trace.rawValue)
            map["targets"] = .array(targets.map { $0.encoded() })
            map["residue"] = .array(residue.map { $0.encoded() })
        case .actor:
            map["scope"] = .string(ScopeName.actor.rawValue)
        }
    }
}

extension Erasure.Target {
    fileprivate func encoded() -> Value { ["seq": .integer(Int64(sequence)), "op": .integer(Int64(operation))] }
}

extension Erasure.Residue {
    fileprivate init(_ value: Value) throws(EventLogError) {
        var fields = try FieldReader(value, in: "residue")
        sequence = try fields.integer("seq", least: 1)
        commit = try ActorCommit(try fields.required("commit"))
        if value["chunks"] != nil {
            operations = .imported(try fields.links("chunks", codec: .dagCBOR, countMax: RepoImport.chunksMax))
        } else {
            operations = .written(try fields.operations("ops", countMax: RepoWrite.operationsMax))
        }
        try fields.finish()
    }

    fileprivate func encoded() -> Value {
        var map: ValueMap = ["seq": .integer(Int64(sequence)), "commit": commit.encoded()]
        switch operations {
        case .written(let operations): map["ops"] = RecordOperation.encode(operations)
        case .imported(let chunks): map["chunks"] = .array(chunks.map(Value.link))
        }
        return .map(map)
    }
}

extension FieldReader {
    fileprivate mutating func targets() throws(EventLogError) -> [Erasure.Target] {
        var targets: [Erasure.Target] = []
        for value in try array("targets", countMax: Erasure.targetsMax) {
            var fields = try FieldReader(value, in: "target")
            targets.append(Erasure.Target(sequence: try fields.integer("seq", least: 1), operation: try fields.integer("op")))
            try fields.finish()
        }
        return targets
    }

    fileprivate mutating func residue() throws(EventLogError) -> [Erasure.Residue] {
        var residue: [Erasure.Residue] = []
        for value in try array("residue", countMax: Erasure.targetsMax) { residue.append(try Erasure.Residue(value)) }
        return residue
    }
}

/// `erasure.done`: the bytes are gone from every file, backup and archive that the service keeps; this is the receipt.
package struct ErasureDone: Hashable, Sendable {
    package let provenance: Provenance
    /// Number of the `erasure` in this log.
    package let erasure: UInt64
    package let bodies: UInt64
    package let blocks: UInt64
    package let blobs: UInt64

    package init(provenance: Provenance, erasure: UInt64, bodies: UInt64, blocks: UInt64, blobs: UInt64) {
        self.provenance = provenance
        self.erasure = erasure
        self.bodies = bodies
        self.blocks = blocks
        self.blobs = blobs
    }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        erasure = try fields.integer("erasure", least: 1)
        bodies = try fields.integer("bodies")
        blocks = try fields.integer("blocks")
        blobs = try fields.integer("blobs")
    }

    func encode(into map: inout ValueMap) {
        map["erasure"] = .integer(Int64(erasure))
        map["bodies"] = .integer(Int64(bodies))
        map["blocks"] = .integer(Int64(blocks))
        map["blobs"] = .integer(Int64(blobs))
    }
}
