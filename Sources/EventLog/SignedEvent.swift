package import ATProto
package import Keys

/// An event with its body and its leaf, signed and ready to be appended.
package struct SignedEvent: Hashable, Sendable {
    package let event: Event
    package let bytes: [UInt8]
    package let cid: CID
    package let bodyBytes: [UInt8]
    /// 65 bytes: what the tree of its generation holds.
    package let leaf: [UInt8]
    /// The generation that this event opens, where it is a `service.start` that does: its position is 1 of that generation.
    package let opensGeneration: UInt64?

    package static let bodyBytesMax = 1 << 20

    /// The head after this event.
    package var head: Head { Head(sequence: event.sequence, event: cid, time: event.time) }

    /// What is said, by whom it is signed and under which tag key its leaf is made.
    package struct Signing: Sendable {
        package let keyEpoch: UInt64
        /// secp256k1, the service key of that epoch.
        package let key: PrivateKey
        /// 32 bytes: the newest of the log at or before this event, the event's own included.
        package let tagKey: [UInt8]

        package init(keyEpoch: UInt64, key: PrivateKey, tagKey: [UInt8]) {
            self.keyEpoch = keyEpoch
            self.key = key
            self.tagKey = tagKey
        }
    }

    /// Signs the next event of a log.
    /// - Parameters:
    ///   - head: what it is chained to.
    ///   - time: not before the head's; see `Head.nextTime(now:)`.
    /// - Throws: `tooLarge` for a body past 1 MiB or a DID past 200 bytes, `signing`.
    package static func sign(
        _ body: EventBody, after head: Head, of did: DID, time: Timestamp, with signing: Signing
    ) throws(EventLogError) -> SignedEvent {
        precondition(time >= head.time ?? time, "the time of an event is never before its predecessor's")
        let didBytes = did.description.utf8.count
        guard didBytes <= Event.didBytesMax else { throw .tooLarge(bytes: didBytes, max: Event.didBytesMax) }
        let bodyBytes = body.encoded()
        guard bodyBytes.count <= bodyBytesMax else { throw .tooLarge(bytes: bodyBytes.count, max: bodyBytesMax) }
        let unsigned = Event(
            did: did, sequence: head.sequence + 1, prev: head.event, time: time, kind: body.kind, body: CID(hashing: bodyBytes),
            keyEpoch: signing.keyEpoch, signature: [])
        let unsignedBytes = unsigned.unsignedBytes
        let signature: [UInt8]
        do { signature = try signing.key.sign(unsignedBytes) } catch { throw .signing("\(error)") }
        let offset = EventWriter.signatureOffset(did: did, sequence: unsigned.sequence)
        let bytes = EventWriter.bytes(signing: unsignedBytes, signature: signature, signatureOffset: offset)
        let cid = CID(hashing: bytes)
        return SignedEvent(
            event: unsigned.signed(signature), bytes: bytes, cid: cid, bodyBytes: bodyBytes,
            leaf: Leaf.make(tagKey: signing.tagKey, sequence: unsigned.sequence, eventDigest: cid.digest),
            opensGeneration: body.opensGeneration)
    }
}

extension Event {
    fileprivate func signed(_ signature: [UInt8]) -> Event {
        Event(did: did, sequence: sequence, prev: prev, time: time, kind: kind, body: body, keyEpoch: keyEpoch, signature: signature)
    }
}
