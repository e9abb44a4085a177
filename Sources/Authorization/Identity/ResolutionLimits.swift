/// How long resolving may take and how much may come back and be kept.
package struct ResolutionLimits: Sendable {
    /// One request, to its last byte.
    package var requestTimeout: Duration
    /// All requests that one question leads to, one after the other.
    package var chainTimeout: Duration
    /// A DID document, a server's metadata or its keys.
    package var documentBytesMax: Int
    /// The text behind `/.well-known/atproto-did`.
    package var wellKnownBytesMax: Int
    /// Entries of each cache: DIDs, handles, servers, key sets.
    package var answersMax: Int
    /// Bytes of each cache.
    package var cacheBytesMax: Int

    package init(
        requestTimeout: Duration = .seconds(3), chainTimeout: Duration = .seconds(10), documentBytesMax: Int = 64 << 10,
        wellKnownBytesMax: Int = 2 << 10, answersMax: Int = 10_000, cacheBytesMax: Int = 16 << 20
    ) {
        self.requestTimeout = requestTimeout
        self.chainTimeout = chainTimeout
        self.documentBytesMax = documentBytesMax
        self.wellKnownBytesMax = wellKnownBytesMax
        self.answersMax = answersMax
        self.cacheBytesMax = cacheBytesMax
    }

    /// DID documents and handles. A document holds the key that speaks for its account: after that key was exchanged the old one
    /// is accepted for five minutes (the protocol asks for less than ten in authentication), and for an hour while the directory
    /// cannot be reached, so that its outage of minutes does not lock everybody out and nobody gains a day by causing one.
    var identityRules: CacheRules {
        CacheRules(
            freshFor: 300 * second, keptFor: 3600 * second, refreshInterval: 10 * second, answersMax: answersMax, bytesMax: cacheBytesMax)
    }

    /// What servers say of themselves. It changes when one moves; until then an hour old is as good as new.
    var metadataRules: CacheRules {
        CacheRules(
            freshFor: 3600 * second, keptFor: 7200 * second, refreshInterval: 30 * second, answersMax: answersMax, bytesMax: cacheBytesMax)
    }

    /// The keys of token issuers, for the same reason as DID documents. A key name that nobody knows is a reason to look again, and
    /// anybody can make one up: hence the interval.
    var keySetRules: CacheRules {
        CacheRules(
            freshFor: 300 * second, keptFor: 3600 * second, refreshInterval: 30 * second, answersMax: answersMax, bytesMax: cacheBytesMax)
    }

    /// When a chain of requests that begins now must have ended.
    func deadline(from now: Int64) -> Int64 { now + chainTimeout.microseconds }
}

private let second: Int64 = 1_000_000

extension Duration {
    var microseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds * 1_000_000 + attoseconds / 1_000_000_000_000
    }
}
