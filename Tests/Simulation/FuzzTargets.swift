import ATProto
import Keys

/// What the fuzzer throws bytes at, and what must hold whatever they are. The test suite runs the kept corpus through the same
/// functions; `tools/fuzz` builds them with libFuzzer.
///
/// A target returns whether the bytes were accepted, and then they were consistent too. It throws ``FuzzFailure`` when an invariant does
/// not hold; it crashes or hangs only by a fault of the code under test.
package enum FuzzTarget: String, CaseIterable, Sendable {
    case dagCBOR = "dag-cbor"
    case json = "json"
    case car = "car"
    case mst = "mst-node"
    case atURI = "at-uri"
    case didKey = "did-key"

    /// Longer inputs are not worth their time: nothing in the formats begins at a greater length.
    package var bytesMax: Int {
        switch self {
        case .dagCBOR, .json, .atURI: 4096
        case .car: 16384
        case .mst: 8192
        case .didKey: 256
        }
    }

    @discardableResult
    package func run(_ bytes: [UInt8]) throws(FuzzFailure) -> Bool {
        switch self {
        case .dagCBOR: try FuzzDAGCBOR.run(bytes)
        case .json: try FuzzJSON.run(bytes)
        case .car: try FuzzCAR.run(bytes)
        case .mst: try FuzzMST.run(bytes)
        case .atURI: try FuzzSyntax.run(bytes)
        case .didKey: try FuzzKeys.run(bytes)
        }
    }
}

/// An invariant that some input broke.
package struct FuzzFailure: Error, CustomStringConvertible {
    package let description: String
}

func invariant(_ holds: @autoclosure () -> Bool, _ broken: @autoclosure () -> String)
    throws(FuzzFailure)
{
    if !holds() { throw FuzzFailure(description: broken()) }
}

/// Byte by byte: `==` on strings takes some different texts for the same.
private func same(_ left: String, _ right: String) -> Bool {
    left.utf8.elementsEqual(right.utf8)
}

/// What `body` gave or threw, so that two ways to the same answer can be compared.
func outcome<Value, Failure: Error>(_ body: () throws(Failure) -> Value) -> Result<Value, Failure> {
    Result(catching: body)
}

// MARK: - Values

enum FuzzDAGCBOR {
    /// What decodes encodes to the same bytes; the walk without values agrees; a value of the JSON data model survives JSON.
    static func run(_ bytes: [UInt8]) throws(FuzzFailure) -> Bool {
        let decoded = outcome { () throws(DAGCBORError) in try DAGCBOR.decode(bytes) }
        let validated = outcome { () throws(DAGCBORError) in try DAGCBOR.validate(bytes) }
        try checkPrefix(bytes)
        guard case .success(let value) = decoded else {
            try invariant((try? validated.get()) == nil, "valid, but does not decode")
            return false
        }
        try invariant((try? validated.get()) != nil, "decodes, but is not valid")
        try invariant(DAGCBOR.encode(value) == bytes, "encodes to other bytes")
        guard isPlain(value), depth(value) < DecodingLimits.json.depthMax, case .map = value else {
            return true
        }
        let fromJSON = outcome { () throws(DataModelJSONError) in
            try DataModelJSON.decode(DataModelJSON.encode(value))
        }
        try invariant(fromJSON == .success(value), "does not survive JSON: \(fromJSON)")
        return true
    }

    /// A first value with anything after it is the value that its own bytes are.
    private static func checkPrefix(_ bytes: [UInt8]) throws(FuzzFailure) {
        guard let (value, end) = try? DAGCBOR.decodePrefix(bytes, at: 0) else { return }
        try invariant(DAGCBOR.encode(value) == Array(bytes[..<end]), "a prefix encodes to other bytes")
        if end < bytes.count { _ = try? DAGCBOR.decodePrefix(bytes, at: end) }
    }

    /// Whether JSON has a way to write the value: no keys that it reserves, no integers beyond 53 bits.
    private static func isPlain(_ value: Value) -> Bool {
        switch value {
        case .integer(let integer): integer.magnitude <= UInt64(DataModelJSON.integerMax)
        case .array(let items): items.allSatisfy(isPlain)
        case .map(let map):
            map.allSatisfy { $0.key.utf8.first != UInt8(ascii: "$") && isPlain($0.value) }
        default: true
        }
    }

    /// Containers within each other, where a link or bytes are a container too, as they are in JSON.
    private static func depth(_ value: Value) -> Int {
        switch value {
        case .bytes, .link: 1
        case .array(let items): 1 + (items.map(depth).max() ?? 0)
        case .map(let map): 1 + (map.map { depth($0.value) }.max() ?? 0)
        default: 0
        }
    }
}

enum FuzzJSON {
    /// What decodes encodes to JSON that decodes to the same, and to DAG-CBOR that does.
    static func run(_ bytes: [UInt8]) throws(FuzzFailure) -> Bool {
        _ = try? DataModelJSON.decodePlain(bytes)
        guard let value = try? DataModelJSON.decode(bytes) else { return false }
        let text = DataModelJSON.encode(value)
        let again = outcome { () throws(DataModelJSONError) in try DataModelJSON.decode(text) }
        try invariant(again == .success(value), "other value after another round: \(again)")
        try invariant(DataModelJSON.encode(value) == text, "encodes to other text the second time")
        let block = DAGCBOR.encode(value)
        let stored = outcome { () throws(DAGCBORError) in try DAGCBOR.decode(block) }
        try invariant(stored == .success(value), "does not survive DAG-CBOR: \(stored)")
        return true
    }
}

// MARK: - Texts

enum FuzzSyntax {
    /// An identifier's description is the text that it was read from, and its parts put together are the identifier.
    static func run(_ bytes: [UInt8]) throws(FuzzFailure) -> Bool {
        let text = String(decoding: bytes, as: UTF8.self)
        let uri = try? ATURI(text)
        if let uri {
            try invariant(same(uri.description, text), "ATURI describes itself otherwise")
            let built: ATURI
            if let collection = uri.collection, let recordKey = uri.recordKey {
                built = ATURI(authority: uri.authority, collection: collection, recordKey: recordKey)
            } else {
                built = ATURI(authority: uri.authority, collection: uri.collection)
            }
            try invariant(built == uri, "ATURI of the parts is another")
            try invariant(
                outcome { () throws(SyntaxError) in try ATURI(built.description) } == .success(uri),
                "ATURI does not come back")
        }
        try keepsText(text) { (text) throws(SyntaxError) in try DID(text) }
        try keepsText(text) { (text) throws(SyntaxError) in try Handle(text) }
        try keepsText(text) { (text) throws(SyntaxError) in try ATIdentifier(text) }
        try keepsText(text) { (text) throws(SyntaxError) in try NSID(text) }
        try keepsText(text) { (text) throws(SyntaxError) in try RecordKey(text) }
        try keepsText(text) { (text) throws(SyntaxError) in try TID(text) }
        try keepsText(text) { (text) throws(SyntaxError) in try Datetime(text) }
        try keepsText(text) { (text) throws(SyntaxError) in try LanguageTag(text) }
        try keepsText(text) { (text) throws(SyntaxError) in try URIString(text) }
        try keepsText(text) { (text) throws(CIDError) in try CID(text) }
        return uri != nil
    }

    private static func keepsText<Identifier: CustomStringConvertible, Failure: Error>(
        _ text: String, _ parse: (String) throws(Failure) -> Identifier
    ) throws(FuzzFailure) {
        guard let identifier = try? parse(text) else { return }
        try invariant(
            same(identifier.description, text), "\(Identifier.self) describes itself otherwise")
    }
}

enum FuzzKeys {
    /// The texts of keys have one form each; and any bytes, taken as a point of either curve, are refused or come back.
    static func run(_ bytes: [UInt8]) throws(FuzzFailure) -> Bool {
        let text = String(decoding: bytes, as: UTF8.self)
        let key = try? PublicKey(didKey: text)
        if let key {
            try invariant(same(key.didKey, text), "did:key describes itself otherwise")
            try comesBack(key)
        }
        if let key = try? PublicKey(multibase: text) {
            try invariant(same(key.multibase, text), "multibase describes itself otherwise")
        }
        if let decoded = try? Base58BTC.decode(text) {
            try invariant(same(Base58BTC.encode(decoded), text), "base58btc encodes to other text")
        }
        if let decoded = try? Base64URL.decode(utf8: bytes) {
            try invariant(
                Array(Base64URL.encode(decoded).utf8) == bytes, "base64url encodes to other text")
        }
        for curve in Curve.allCases {
            guard let key = try? PublicKey(curve: curve, sec1: bytes) else { continue }
            try comesBack(key)
        }
        return key != nil
    }

    private static func comesBack(_ key: PublicKey) throws(FuzzFailure) {
        let ways: [Result<PublicKey, KeysError>] = [
            outcome { () throws(KeysError) in try PublicKey(didKey: key.didKey) },
            outcome { () throws(KeysError) in try PublicKey(jwk: key.jwk) },
            outcome { () throws(KeysError) in try PublicKey(curve: key.curve, compressed: key.compressed)
            },
        ]
        for way in ways { try invariant(way == .success(key), "a key does not come back: \(way)") }
        try invariant(
            !key.verifies([UInt8](repeating: 1, count: 64), of: []), "a signature of ones verifies")
    }
}
