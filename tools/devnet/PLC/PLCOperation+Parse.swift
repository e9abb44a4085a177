package import ATProto
import Keys

/// Reading an operation that somebody sent: the shape, and the limits of the public directory.
extension PLCOperation {
    private static let bytesMax = 7500

    package init(_ value: Value) throws(PLCError) {
        guard DAGCBOR.encode(value).count <= Self.bytesMax else { throw .invalidOperation("Operation too large") }
        guard let map = value.mapValue, let type = map["type"]?.stringValue else { throw Self.malformed("no type") }
        switch type {
        case "plc_operation":
            try Self.check(map, has: ["type", "rotationKeys", "verificationMethods", "alsoKnownAs", "services", "prev", "sig"])
            content = try Content(map)
            prev = map["prev"]?.isNull == true ? nil : try Self.cid(map["prev"])
        case "plc_tombstone":
            try Self.check(map, has: ["type", "prev", "sig"])
            content = nil
            prev = try Self.cid(map["prev"])
        default: throw Self.malformed("unknown type")
        }
        guard let text = map["sig"]?.stringValue, let bytes = try? Base64URL.decode(text) else { throw Self.malformed("sig") }
        signature = bytes
        // What was sent is what is hashed and shown again; nothing of it may be lost in between.
        guard self.value == value else { throw Self.malformed("not in its only form") }
    }

    fileprivate static func malformed(_ reason: String) -> PLCError { .invalidOperation("Not a valid operation: \(reason)") }

    private static func check(_ map: ValueMap, has names: Set<String>) throws(PLCError) {
        guard Set(map.map(\.key)) == names else { throw malformed("its fields must be \(names.sorted().joined(separator: ", "))") }
    }

    private static func cid(_ value: Value?) throws(PLCError) -> CID {
        guard let text = value?.stringValue else { throw malformed("prev") }
        do { return try CID(text) } catch { throw malformed("prev") }
    }
}

extension PLCOperation.Content {
    fileprivate init(_ map: ValueMap) throws(PLCError) {
        rotationKeys = try Self.strings(map, "rotationKeys", countMax: 5, lengthMax: 256)
        for key in rotationKeys { try Self.checkKey(key, "rotationKey") }
        alsoKnownAs = try Self.strings(map, "alsoKnownAs", countMax: 10, lengthMax: 256)
        guard Set(alsoKnownAs).count == alsoKnownAs.count else { throw .invalidOperation("duplicate alsoKnownAs field") }
        verificationMethods = [:]
        for (id, key) in try Self.entries(map, "verificationMethods") {
            guard let key = key.stringValue else { throw PLCOperation.malformed("verificationMethods") }
            try Self.checkKey(key, "verificationMethod key")
            verificationMethods[id] = key
        }
        services = [:]
        for (id, service) in try Self.entries(map, "services") {
            guard let type = service["type"]?.stringValue, let endpoint = service["endpoint"]?.stringValue, service.mapValue?.count == 2
            else {
                throw PLCOperation.malformed("services")
            }
            guard type.utf16.count <= 256 else { throw .invalidOperation("Service type too long (max 256)") }
            guard endpoint.utf16.count <= 512 else { throw .invalidOperation("Service endpoint too long (max 512)") }
            services[id] = PLCOperation.Service(type: type, endpoint: endpoint)
        }
    }

    private static func strings(_ map: ValueMap, _ name: String, countMax: Int, lengthMax: Int) throws(PLCError) -> [String] {
        guard let items = map[name]?.arrayValue else { throw PLCOperation.malformed(name) }
        guard items.count <= countMax else { throw .invalidOperation("Too many \(name) items (max \(countMax))") }
        var strings: [String] = []
        for item in items {
            guard let string = item.stringValue else { throw PLCOperation.malformed(name) }
            guard string.utf16.count <= lengthMax else { throw .invalidOperation("\(name) field too long (max \(lengthMax))") }
            strings.append(string)
        }
        return strings
    }

    private static func entries(_ map: ValueMap, _ name: String) throws(PLCError) -> ValueMap {
        guard let entries = map[name]?.mapValue else { throw PLCOperation.malformed(name) }
        guard entries.count <= 10 else { throw .invalidOperation("Too many \(name) entries (max 10)") }
        guard entries.allSatisfy({ $0.key.utf16.count <= 32 }) else { throw .invalidOperation("\(name) id too long (max 32)") }
        return entries
    }

    private static func checkKey(_ text: String, _ name: String) throws(PLCError) {
        do { _ = try PublicKey(didKey: text) } catch { throw .invalidOperation("Invalid \(name): \(text)") }
    }
}
