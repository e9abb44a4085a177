package import ATProto
package import Keys

/// Where one actor's log ends: what the next event is chained to.
package struct Head: Hashable, Sendable {
    /// Number of the last event; 0 for a log without events.
    package let sequence: UInt64
    /// CID of the last event; nil exactly when `sequence` is 0.
    package let event: CID?
    package let time: Timestamp?

    package static let empty = Head(sequence: 0, event: nil, time: nil)

    private init(sequence: UInt64, event: CID?, time: Timestamp?) {
        self.sequence = sequence
        self.event = event
        self.time = time
    }

    /// The head after an event.
    package init(sequence: UInt64, event: CID, time: Timestamp) {
        precondition(sequence > 0, "I2: events count from 1")
        self.init(sequence: sequence, event: .some(event), time: .some(time))
    }

    /// The time for the next event: the clock's, or a millisecond past the last event's where the clock went back.
    package func nextTime(now: Timestamp) -> Timestamp {
        guard let time, now < time else { return now }
        return Timestamp(milliseconds: time.milliseconds + 1)
    }
}

/// One signed statement of the service about one actor: this happened, then, after that. FORMAT.md, section 2.
package struct Event: Hashable, Sendable {
    /// Whose log this is; the service's own DID for what the service did to itself.
    package let did: DID
    /// Number in that log, from 1 without gaps (I2).
    package let sequence: UInt64
    /// CID of event `sequence − 1`; nil exactly at 1 (I3).
    package let prev: CID?
    package let time: Timestamp
    package let kind: EventKind
    /// CID of the body. The signature covers this and never the content, so content can be erased.
    package let body: CID
    /// Which service key signed: the n-th of the service's log, from 1.
    package let keyEpoch: UInt64
    /// ECDSA secp256k1 over SHA-256 of the unsigned bytes: r ‖ s, 64 bytes, low-S.
    package let signature: [UInt8]

    package static let version: UInt8 = 1
    package static let bytesMax = 4096
    package static let didBytesMax = 200

    /// Reads an event: at most 4,096 bytes, in its one encoding, with the known fields and no others.
    package init(bytes: [UInt8]) throws(EventLogError) {
        guard bytes.count <= Event.bytesMax else { throw .tooLarge(bytes: bytes.count, max: Event.bytesMax) }
        let result: Result<Event, EventLogError> = bytes.withUnsafeBytes { buffer in
            do throws(EventLogError) {
                var reader = EventReader(buffer)
                return .success(try reader.event())
            } catch {
                return .failure(error)
            }
        }
        self = try result.get()
    }

    init(
        did: DID, sequence: UInt64, prev: CID?, time: Timestamp, kind: EventKind, body: CID, keyEpoch: UInt64, signature: [UInt8]
    ) {
        self.did = did
        self.sequence = sequence
        self.prev = prev
        self.time = time
        self.kind = kind
        self.body = body
        self.keyEpoch = keyEpoch
        self.signature = signature
    }

    package var bytes: [UInt8] { EventWriter.bytes(of: self, signature: signature) }
    package var unsignedBytes: [UInt8] { EventWriter.bytes(of: self, signature: nil) }
    package var cid: CID { CID(hashing: bytes) }

    package func verifies(with key: PublicKey) -> Bool {
        key.curve == .k256 && key.verifies(signature, of: unsignedBytes)
    }

    /// What was signed, cut out of an event's own bytes: the first byte counts one field less, and `sig` is left out.
    /// - Parameter bytes: those that `init(bytes:)` accepted.
    func unsignedBytes(cutFrom bytes: [UInt8]) -> [UInt8] {
        let start = EventWriter.signatureOffset(did: did, sequence: sequence)
        var unsigned: [UInt8] = []
        unsigned.reserveCapacity(bytes.count)
        unsigned.append(0xA8)
        unsigned.append(contentsOf: bytes[1..<start])
        unsigned.append(contentsOf: bytes[(start + EventWriter.signatureFieldByteCount)...])
        return unsigned
    }
}
