internal import ATProto

/// What the service asks of an account, and whether what it was given is enough.
package enum OAuthScope {
    /// To be who one is, and to keep two kinds of records on one's own server: that one is a member here, and placeholders of posts.
    package static let requested = (["atproto"] + collections.map { "repo:\($0)" }).joined(separator: " ")

    private static let collections = ["zone.stratos.actor.enrollment", "zone.stratos.feed.post"]
    private static let actions: Set<String> = ["create", "update", "delete"]

    /// Servers may write a grant in another form than it was asked for: `repo:*`, `repo?collection=…`, with actions named. What counts
    /// is that each collection may be written in every way.
    package static func isEnough(_ granted: String) -> Bool {
        let tokens = granted.split(separator: " ").map(String.init)
        guard tokens.contains("atproto") else { return false }
        if tokens.contains("transition:generic") { return true }
        let grants = tokens.compactMap(repoGrant)
        return collections.allSatisfy { collection in
            let allowed = grants.filter { $0.collections.contains(collection) || $0.collections.contains("*") }.map(\.actions)
            return allowed.reduce(into: Set<String>()) { $0.formUnion($1) }.isSuperset(of: actions)
        }
    }

    /// `repo:COLLECTION[?…]` or `repo?collection=…&action=…`; nil for every other token.
    private static func repoGrant(_ token: String) -> (collections: Set<String>, actions: Set<String>)? {
        let parts = token.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        var (collections, named): (Set<String>, Set<String>) = ([], [])
        if parts[0].hasPrefix("repo:") {
            collections.insert(String(parts[0].dropFirst(5)))
        } else if parts[0] != "repo" {
            return nil
        }
        for field in parts.count == 2 ? parts[1].split(separator: "&") : [] {
            let pair = field.split(separator: "=", maxSplits: 1)
            guard pair.count == 2 else { return nil }
            switch pair[0] {
            case "collection": collections.insert(String(pair[1]))
            case "action": named.insert(String(pair[1]))
            default: return nil
            }
        }
        return (collections, named.isEmpty ? actions : named)
    }
}
