import ATProto

/// What a client may ask for, one word of a scope text (AT Protocol, "Permissions").
enum OAuthScope: Hashable, Sendable {
    case atproto
    /// `transition:…`, which stands for what app passwords could do.
    case transition(String)
    case repo(RepoPermission)
    /// `rpc:`, `blob:`, `account:`, `identity:` or `include:`: granted and carried, though nothing here asks for them.
    case other(String)

    /// nil for what no such scope is.
    init?(_ text: String) {
        let resource = text.prefix { $0 != ":" && $0 != "?" }
        switch resource {
        case "atproto" where text == "atproto": self = .atproto
        case "transition":
            guard ["transition:generic", "transition:email", "transition:chat.bsky"].contains(text) else { return nil }
            self = .transition(text)
        case "repo":
            guard let permission = RepoPermission(text) else { return nil }
            self = .repo(permission)
        case "rpc", "blob", "account", "identity", "include":
            guard text.utf8.count > resource.utf8.count + 1 else { return nil }
            self = .other(text)
        default: return nil
        }
    }

    /// Whether these words allow a write.
    static func allows(_ action: DevnetWrite.Action, in collection: NSID, scope: String) -> Bool {
        scope.split(separator: " ").contains { word in
            switch OAuthScope(String(word)) {
            case .transition("transition:generic"): true
            case .repo(let permission): permission.allows(action, in: collection)
            default: false
            }
        }
    }
}

/// `repo:NSID[?action=create&action=update&action=delete]`, or with `collection` in the query, where it may come several times.
struct RepoPermission: Hashable, Sendable {
    /// nil for every collection, `*`.
    let collections: Set<NSID>?
    let actions: Set<DevnetWrite.Action>

    init?(_ text: String) {
        let parts = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts[0] == "repo" || parts[0].hasPrefix("repo:"), let pairs = try? FormFields.pairs(parts.count > 1 ? parts[1] : "") else {
            return nil
        }
        var names = parts[0] == "repo" ? [] : [String(parts[0].dropFirst("repo:".count))]
        let isPositional = !names.isEmpty
        var actions: Set<DevnetWrite.Action> = []
        for (name, value) in pairs {
            switch name {
            case "collection" where !isPositional: names.append(value)
            case "action":
                guard let action = DevnetWrite.Action(rawValue: value) else { return nil }
                actions.insert(action)
            default: return nil
            }
        }
        guard !names.isEmpty else { return nil }
        var collections: Set<NSID> = []
        for name in names where name != "*" {
            guard let collection = try? NSID(name) else { return nil }
            collections.insert(collection)
        }
        self.collections = names.contains("*") ? nil : collections
        self.actions = actions.isEmpty ? Set(DevnetWrite.Action.allCases) : actions
    }

    func allows(_ action: DevnetWrite.Action, in collection: NSID) -> Bool {
        actions.contains(action) && (collections?.contains(collection) ?? true)
    }
}
