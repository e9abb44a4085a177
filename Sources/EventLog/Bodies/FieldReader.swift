import ATProto
import Keys

/// Takes the fields of one decoded map, one by one, and refuses what is missing, of another type, out of bounds, or left over.
///
/// A field that does not apply is absent; null stands in no body but for an erased operation.
struct FieldReader {
    private let map: ValueMap
    private let place: String
    private var taken = 0

    init(_ map: ValueMap, in place: String) {
        self.map = map
        self.place = place
    }

    init(_ value: Value, in place: String) throws(EventLogError) {
        guard case .map(let map) = value else { throw .malformed("\(place): a map") }
        self.init(map, in: place)
    }

    /// Every field was taken: nothing unknown stands beside the known ones.
    func finish() throws(EventLogError) {
        guard taken == map.count else { throw .malformed("\(place): a field that is not known to this version") }
    }

    func failure(_ field: String, _ shape: String) -> EventLogError { .malformed("\(place): \(field): \(shape)") }

    mutating func optional(_ field: String) -> Value? {
        guard let value = map[field] else { return nil }
        taken += 1
        return value
    }

    mutating func required(_ field: String) throws(EventLogError) -> Value {
        guard let value = optional(field) else { throw failure(field, "is missing") }
        return value
    }

    mutating func text(_ field: String, bytesMax: Int, bytesMin: Int = 1) throws(EventLogError) -> String {
        guard let text = try optionalText(field, bytesMax: bytesMax, bytesMin: bytesMin) else { throw failure(field, "is missing") }
        return text
    }

    mutating func optionalText(_ field: String, bytesMax: Int, bytesMin: Int = 1) throws(EventLogError) -> String? {
        guard let value = optional(field) else { return nil }
        guard case .string(let text) = value, (bytesMin...bytesMax).contains(text.utf8.count) else {
            throw failure(field, "a text of \(bytesMin) to \(bytesMax) bytes")
        }
        return text
    }

    mutating func bytes(_ field: String, count: Int) throws(EventLogError) -> [UInt8] {
        guard let bytes = try optionalBytes(field, count: count) else { throw failure(field, "is missing") }
        return bytes
    }

    mutating func optionalBytes(_ field: String, count: Int) throws(EventLogError) -> [UInt8]? {
        guard let value = optional(field) else { return nil }
        guard case .bytes(let bytes) = value, bytes.count == count else { throw failure(field, "\(count) bytes") }
        return bytes
    }

    mutating func bytes(_ field: String, countMax: Int) throws(EventLogError) -> [UInt8] {
        guard case .bytes(let bytes) = try required(field), (1...countMax).contains(bytes.count) else {
            throw failure(field, "1 to \(countMax) bytes")
        }
        return bytes
    }

    mutating func integer(_ field: String, least: Int64 = 0) throws(EventLogError) -> UInt64 {
        guard let integer = try optionalInteger(field, least: least) else { throw failure(field, "is missing") }
        return integer
    }

    mutating func optionalInteger(_ field: String, least: Int64 = 0) throws(EventLogError) -> UInt64? {
        guard let value = optional(field) else { return nil }
        guard case .integer(let integer) = value, integer >= least, integer < 1 << 53 else {
            throw failure(field, "an integer from \(least) to 2^53 − 1")
        }
        return UInt64(integer)
    }

    /// A flag is `true` or absent.
    mutating func flag(_ field: String) throws(EventLogError) -> Bool {
        guard let value = optional(field) else { return false }
        guard case .bool(true) = value else { throw failure(field, "true, or absent") }
        return true
    }

    mutating func link(_ field: String, codec: CID.Codec? = .dagCBOR) throws(EventLogError) -> CID {
        guard let link = try optionalLink(field, codec: codec) else { throw failure(field, "is missing") }
        return link
    }

    mutating func optionalLink(_ field: String, codec: CID.Codec? = .dagCBOR) throws(EventLogError) -> CID? {
        guard let value = optional(field) else { return nil }
        guard case .link(let link) = value, codec == nil || link.codec == codec else {
            throw failure(field, codec == .raw ? "a link to raw bytes" : "a link to DAG-CBOR")
        }
        return link
    }

    mutating func links(_ field: String, codec: CID.Codec, countMax: Int) throws(EventLogError) -> [CID] {
        var links: [CID] = []
        for value in try array(field, countMax: countMax) {
            guard case .link(let link) = value, link.codec == codec else { throw failure(field, "an array of links") }
            links.append(link)
        }
        return links
    }

    mutating func array(_ field: String, countMax: Int) throws(EventLogError) -> [Value] {
        guard case .array(let array) = try required(field), array.count <= countMax else {
            throw failure(field, "an array of at most \(countMax)")
        }
        return array
    }

    mutating func did(_ field: String) throws(EventLogError) -> DID {
        let text = try text(field, bytesMax: Event.didBytesMax)
        do { return try DID(text) } catch { throw failure(field, "\(error)") }
    }

    mutating func nsid(_ field: String) throws(EventLogError) -> NSID {
        let text = try text(field, bytesMax: 317)
        do { return try NSID(text) } catch { throw failure(field, "\(error)") }
    }

    mutating func uri(_ field: String) throws(EventLogError) -> ATURI {
        let text = try text(field, bytesMax: 8192)
        do { return try ATURI(text) } catch { throw failure(field, "\(error)") }
    }

    mutating func path(_ field: String) throws(EventLogError) -> RecordPath {
        let text = try text(field, bytesMax: RecordPath.bytesMax)
        guard let path = RecordPath(text) else { throw failure(field, "a collection and a record key with a slash between them") }
        return path
    }

    /// A public key as did:key; the text must be the one that we would write.
    mutating func key(_ field: String, _ curve: Curve) throws(EventLogError) -> PublicKey {
        let text = try text(field, bytesMax: 128)
        let key: PublicKey
        do { key = try PublicKey(didKey: text) } catch { throw failure(field, "\(error)") }
        guard key.curve == curve else { throw failure(field, "a did:key on the curve \(curve)") }
        return key
    }

    mutating func choice<Choice: RawRepresentable>(_ field: String, _ type: Choice.Type) throws(EventLogError) -> Choice
    where Choice.RawValue == String {
        guard let choice = Choice(rawValue: try text(field, bytesMax: 64)) else { throw failure(field, "not one of the known words") }
        return choice
    }
}
