/// Keys found by search for the layer that their hash puts them in: chance would need 4ⁿ keys for one of layer n. They make the
/// trees that honest use does not: high roots, long chains of nodes without entries, splits through many layers.
package enum MinedKeys {
    package static let byLayer: [Int: [String]] = [
        5: [
            "com.example.d/110929352", "com.example.d/15307427", "com.example.d/188923583", "com.example.d/196795069",
            "com.example.d/69853499", "com.example.g/162600827",
        ],
        6: [
            "com.example.a/221898299", "com.example.a/74391086", "com.example.d/109488094", "com.example.d/112758641",
            "com.example.d/1180065623", "com.example.d/157437639",
        ],
        7: [
            "com.example.a/1109713227", "com.example.a/231488208", "com.example.a/4242897253", "com.example.a/427776461",
            "com.example.d/2247317172", "com.example.d/2753697627",
        ],
        8: [
            "com.example.a/758323440", "com.example.d/1018647042", "com.example.d/2216385558", "com.example.d/3080696894",
            "com.example.d/3266175712", "com.example.d/6804410984",
        ],
        9: [
            "com.example.a/6905016275", "com.example.a/8393226026", "com.example.g/1691835628", "com.example.g/7592066400",
        ],
        10: [
            "com.example.a/2890509927", "com.example.a/5803807447", "com.example.a/6629627446", "com.example.d/3247400130",
        ],
        11: [
            "com.example.a/8948643978", "com.example.g/2844350076", "com.example.k/7808655807", "com.example.p/1719891431",
        ],
        12: [
            "com.example.a/253795678", "com.example.g/3772194575", "com.example.g/4351504277", "com.example.k/1715566937",
        ],
        13: [
            "com.example.a/444385780"
        ],
        14: [
            "com.example.g/5971171644"
        ],
    ]

    /// All of them, lowest layer first.
    package static let all: [String] = byLayer.keys.sorted().flatMap { byLayer[$0] ?? [] }
}
