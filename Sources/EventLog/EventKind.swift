/// What an event says has happened. A kind that this version does not know keeps its text.
package struct EventKind: Hashable, Sendable, CustomStringConvertible {
    package let text: String

    private init(known text: String) { self.text = text }

    /// - Throws: `malformed` unless the text is lower-case words with single dots between them, at most 64 bytes.
    package init(_ text: String) throws(EventLogError) {
        var copy = text
        guard let kind = copy.withUTF8({ EventKind(parsing: UnsafeRawBufferPointer($0)) }) else {
            throw .malformed("kind: lower-case words with dots between them, at most \(EventKind.bytesMax) bytes")
        }
        self = kind
    }

    /// A known kind costs a comparison and no allocation.
    init?(parsing bytes: UnsafeRawBufferPointer) {
        for kind in EventKind.all where kind.text.utf8.count == bytes.count && kind.text.utf8.elementsEqual(bytes) {
            self = kind
            return
        }
        guard bytes.count <= EventKind.bytesMax else { return nil }
        var previous: UInt8 = 0x2E
        for byte in bytes {
            guard (0x61...0x7A).contains(byte) || (byte == 0x2E && previous != 0x2E) else { return nil }
            previous = byte
        }
        guard previous != 0x2E else { return nil }
        text = String(decoding: bytes, as: UTF8.self)
    }

    package var description: String { text }
    package static let bytesMax = 64

    /// Events of the service's own log have kinds that begin with this; no other log has them.
    package var isOfService: Bool { text.utf8.starts(with: "service.".utf8) }

    package static let serviceStart = EventKind(known: "service.start")
    package static let serviceKey = EventKind(known: "service.key")
    package static let serviceConfig = EventKind(known: "service.config")
    package static let accountEnroll = EventKind(known: "account.enroll")
    package static let accountBoundaries = EventKind(known: "account.boundaries")
    package static let accountAttest = EventKind(known: "account.attest")
    package static let accountKey = EventKind(known: "account.key")
    package static let accountLeave = EventKind(known: "account.leave")
    package static let repoWrite = EventKind(known: "repo.write")
    package static let repoImport = EventKind(known: "repo.import")
    package static let blobPut = EventKind(known: "blob.put")
    package static let blobState = EventKind(known: "blob.state")
    package static let moderationTakedown = EventKind(known: "moderation.takedown")
    package static let moderationRestore = EventKind(known: "moderation.restore")
    package static let erasure = EventKind(known: "erasure")
    package static let erasureDone = EventKind(known: "erasure.done")
    package static let adminRead = EventKind(known: "admin.read")

    /// Every kind of this version, the most frequent first.
    package static let all: [EventKind] = [
        repoWrite, accountEnroll, repoImport, accountBoundaries, accountAttest, accountKey, accountLeave, blobPut, blobState,
        moderationTakedown, moderationRestore, erasure, erasureDone, adminRead, serviceStart, serviceKey, serviceConfig,
    ]
}
