package import ATProto

/// Posts as people write them: about 300 B of DAG-CBOR, a third of them replies, a few with a link in the text or an image.
/// The same seed gives the same posts on every machine; benchmarks and proofs all take theirs from here.
package struct PostGenerator: Sendable {
    private var generator: SeededGenerator
    /// Unix microseconds: rising, by up to two minutes from post to post.
    private var microseconds: Int64 = 1_750_000_000_000_000

    package init(seed: UInt64) {
        generator = SeededGenerator(seed: seed)
    }

    /// The next post, with its path in a repo: record keys rise, as those of clients do.
    package mutating func next() -> (path: String, record: Value) {
        microseconds += Int64.random(in: 1...120_000_000, using: &generator)
        let key = TID(microseconds: microseconds, clockID: 7)
        var record: ValueMap = [
            "$type": .string(Self.collection),
            "text": .string(text()),
            "langs": .array([.string(Self.languages.randomElement(using: &generator) ?? "en")]),
            "createdAt": .string(Self.time(microseconds)),
        ]
        let kind = Int.random(in: 0..<20, using: &generator)
        if kind < 7 { record["reply"] = .map(["root": .map(reference()), "parent": .map(reference())]) }
        if kind >= 15 && kind < 17 { record["embed"] = image() }
        if kind >= 17 { record["facets"] = facets() }
        return (Self.collection + "/" + key.description, .map(record))
    }

    package static let collection = "app.bsky.feed.post"

    private mutating func text() -> String {
        let count = Int.random(in: 8...28, using: &generator)
        return (0..<count).map { _ in Self.words.randomElement(using: &generator) ?? "" }.joined(separator: " ")
    }

    private mutating func reference() -> ValueMap {
        let author = Base32.encode(generator.bytes(15))
        let key = TID(microseconds: microseconds - Int64.random(in: 1...9_000_000_000, using: &generator), clockID: 3)
        let cid = CID(codec: .dagCBOR, digest: generator.bytes(32))
        return ["uri": .string("at://did:plc:\(author)/\(Self.collection)/\(key)"), "cid": .string(cid.description)]
    }

    private mutating func image() -> Value {
        let size = Int64.random(in: 1...1_000_000, using: &generator)
        let blob: ValueMap = [
            "$type": "blob", "mimeType": "image/jpeg", "size": .integer(size), "ref": .link(CID(codec: .raw, digest: generator.bytes(32))),
        ]
        return ["$type": "app.bsky.embed.images", "images": [["alt": "", "image": .map(blob)]]]
    }

    private mutating func facets() -> Value {
        let page = UInt32.random(in: 0...UInt32.max, using: &generator)
        let feature: ValueMap = ["$type": "app.bsky.richtext.facet#link", "uri": .string("https://example.com/pages/\(page)")]
        return [["index": ["byteStart": 0, "byteEnd": 5], "features": [.map(feature)]]]
    }

    /// Only a day's time is needed, so no calendar is.
    private static func time(_ microseconds: Int64) -> String {
        let milliseconds = microseconds / 1000
        func digits(_ number: Int64, _ count: Int) -> String {
            let text = String(number)
            return String(repeating: "0", count: count - text.count) + text
        }
        let (hour, minute) = (milliseconds / 3_600_000 % 24, milliseconds / 60_000 % 60)
        let (second, rest) = (milliseconds / 1000 % 60, milliseconds % 1000)
        return "2025-06-15T\(digits(hour, 2)):\(digits(minute, 2)):\(digits(second, 2)).\(digits(rest, 3))Z"
    }

    private static let languages = ["en", "en", "en", "de", "ja", "pt-BR"]
    private static let words = [
        "about", "river", "and", "the", "of", "morning", "light", "we", "found", "an", "old", "bridge", "nobody", "knows", "über",
        "café", "今日", "🌊", "which", "goes", "nowhere", "in", "summer", "slowly", "across", "field", "to", "a", "house", "again",
    ]
}
