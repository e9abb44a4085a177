package import ATProto
import Crypto

/// A digest over rows: SHA-256 over the canonical DAG-CBOR arrays `[projection, version, key, row]`, one after the other in the
/// order of projection and key. Neither row ids nor times of projection enter, so backends, machines and layouts agree.
package struct ActorDigest {
    private var hash = SHA256()

    package init() {}

    package mutating func add(projection: String, key: String, row: Value) {
        hash.update(
            data: DAGCBOR.encode([.string(projection), .integer(Int64(ProjectionVersion.actor)), .string(key), row]))
    }

    package static func of(_ rows: any ActorRows) throws -> [UInt8] {
        var digest = ActorDigest()
        try rows.forEachRow { projection, key, row in digest.add(projection: projection, key: key, row: row) }
        return digest.finalize()
    }

    package consuming func finalize() -> [UInt8] { Array(hash.finalize()) }
}

/// The digest of a deployment: SHA-256 over `[did, digest]` of each actor in order of the DIDs' bytes, the service's own log left out.
package struct DeploymentDigest {
    private var hash = SHA256()
    package private(set) var actors = 0

    package init() {}

    package mutating func add(_ actor: DID, digest: [UInt8]) {
        hash.update(data: DAGCBOR.encode([.string(actor.description), .bytes(digest)]))
        actors += 1
    }

    /// Hexadecimal.
    package func text() -> String { hash.finalize().map { String(UInt16($0) + 0x100, radix: 16).dropFirst() }.joined() }
}
