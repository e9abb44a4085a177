import ATProto
import Authorization
import Commands
import EventLog
import Keys

/// A value that a setting does not take. The text says what it takes, as the rest of "is not allowed: …".
struct NotAllowed: Error {
    let allowed: String

    init(_ allowed: String) { self.allowed = allowed }
}

/// Takes the text of a setting, without white space around it, and gives the form that is in force: two texts that mean the same
/// become one, so that whatever compares them compares meanings.
typealias SettingRule = @Sendable (String) throws(NotAllowed) -> String

/// What settings are allowed to be. Nothing is guessed: what is not plainly right is refused.
enum SettingRules {
    static func oneOf(_ allowed: String..., later: String? = nil) -> SettingRule {
        { text throws(NotAllowed) in
            if text == later { throw NotAllowed("\(text) is not in this release; allowed: \(allowed.joined(separator: ", "))") }
            guard allowed.contains(text) else { throw NotAllowed("one of \(allowed.joined(separator: ", "))") }
            return text
        }
    }

    /// `true` or `false`, and no other word for them: a deployment that sets `no` means something.
    static let boolean = oneOf("true", "false")

    /// Digits alone, no sign.
    static func integer(_ range: ClosedRange<Int>) -> SettingRule {
        { text throws(NotAllowed) in
            guard text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }), let number = Int(text),
                range.contains(number)
            else { throw NotAllowed("a whole number from \(range.lowerBound) to \(range.upperBound)") }
            return String(number)
        }
    }

    /// Text on one line.
    static func line(bytesMax: Int, _ what: String) -> SettingRule {
        { text throws(NotAllowed) in
            guard text.utf8.count <= bytesMax, text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F }) else {
                throw NotAllowed("\(what) of at most \(bytesMax) bytes, without control characters")
            }
            return text
        }
    }

    /// What may stand in a header.
    static let headerText = ascii(bytesMax: 200, "up to 200 characters of ASCII") { (0x20...0x7E).contains($0) }

    static func ascii(bytesMax: Int, _ allowed: String, _ isAllowed: @escaping @Sendable (UInt8) -> Bool) -> SettingRule {
        { text throws(NotAllowed) in
            guard text.utf8.count <= bytesMax, text.utf8.allSatisfy(isAllowed) else { throw NotAllowed(allowed) }
            return text
        }
    }

    /// Any characters, spaces and line ends too. Not without bound: it travels in a header.
    static let password: SettingRule = { text throws(NotAllowed) in
        guard text.utf8.count <= 1024 else { throw NotAllowed("a password of any characters, at most 1024 bytes") }
        return text
    }

    static let bareName: SettingRule = { text throws(NotAllowed) in
        guard BoundaryName.isBare(text) else { throw NotAllowed("1 to 64 characters of A–Z a–z 0–9 . _ -") }
        return text
    }

    static let serviceDID: SettingRule = { text throws(NotAllowed) in
        guard (try? DID(text)) != nil, text.utf8.count <= 188 else {
            throw NotAllowed("a DID of at most 188 bytes, such as did:web:stratos.example.com")
        }
        return text
    }

    static let did: SettingRule = { text throws(NotAllowed) in
        guard (try? DID(text)) != nil else { throw NotAllowed("DIDs") }
        return text
    }

    /// One that can be enrolled.
    static let enrolledDID: SettingRule = { text throws(NotAllowed) in
        guard (try? DID(text)) != nil, text.utf8.count <= Event.didBytesMax else {
            throw NotAllowed("DIDs of at most \(Event.didBytesMax) bytes")
        }
        return text
    }

    /// Items between commas, spaces around each and empty ones dropped; at least one.
    static func list(_ item: @escaping SettingRule) -> SettingRule {
        { text throws(NotAllowed) in
            var items: [String] = []
            for part in text.split(separator: ",") {
                let part = part.trimmed
                guard !part.isEmpty else { continue }
                do throws(NotAllowed) { items.append(try item(part)) } catch {
                    throw NotAllowed("a list, separated by commas, of \(error.allowed)")
                }
            }
            guard !items.isEmpty else { throw NotAllowed("a list, separated by commas, with something in it") }
            return items.joined(separator: ",")
        }
    }

    static let names = list { text throws(NotAllowed) in
        guard BoundaryName.isBare(text) else { throw NotAllowed("bare names of 1 to 64 characters of A–Z a–z 0–9 . _ -") }
        return text
    }

    static let keyHex: SettingRule = { text throws(NotAllowed) in
        let isHex = text.utf8.count == 64 && text.utf8.allSatisfy({ Character(UnicodeScalar($0)).isHexDigit })
        guard isHex, (try? PrivateKey(curve: .k256, rawBytes: Hex.decode(text))) != nil else {
            throw NotAllowed("64 hexadecimal digits, a secp256k1 private key (not zero, and below the order of the curve)")
        }
        return text.lowercased()
    }

    /// A private key as OAuth clients have one.
    static let clientSecret: SettingRule = { text throws(NotAllowed) in
        guard text.utf8.count <= 16_384, (try? ClientSecret.key(text)) != nil else {
            throw NotAllowed("a P-256 private key, as PEM (PKCS #8 or SEC 1) or as a JWK")
        }
        return text
    }

    static let logLevel = oneOf("fatal", "error", "warn", "info", "debug", "trace", "silent")
}

extension Substring {
    /// Without white space at both ends.
    var trimmed: String {
        var rest = self
        while rest.first?.isWhitespace == true { rest.removeFirst() }
        while rest.last?.isWhitespace == true { rest.removeLast() }
        return String(rest)
    }
}
