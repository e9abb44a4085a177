package import ATProto

/// What an account publishes of itself: its DID document, and whether the handle in it leads back.
package struct AccountDescription: Hashable, Sendable {
    /// The DID document, every member of it.
    package let document: Value
    /// The one that the document names, right or wrong.
    package let handle: Handle?
    package let handleIsCorrect: Bool

    package init(document: Value, handle: Handle?, handleIsCorrect: Bool) {
        self.document = document
        self.handle = handle
        self.handleIsCorrect = handleIsCorrect
    }
}

/// Accounts as the outside knows them, looked up as far as others answer: nothing here decides what anybody may do.
///
/// A handle is looked up only for a caller who has proven to be a member or an AppView. Nobody else could be shown anything under it,
/// so for them a handle is an unknown repo without a look: what strangers send makes the service ask nobody. Members' questions go
/// out by a way of their own, with its own few places and its own memory: hosts that answer slowly keep no credential from being
/// checked, and how fast an answer comes says nothing of who was here lately.
package struct Accounts: Sendable {
    let describe: @Sendable (DID) async -> AccountDescription?
    let find: @Sendable (Handle) async -> DID?

    package init(
        describe: @escaping @Sendable (DID) async -> AccountDescription?, find: @escaping @Sendable (Handle) async -> DID?
    ) {
        self.describe = describe
        self.find = find
    }

    /// - Parameters:
    ///   - members: resolves those whose DID is known to be a member's.
    ///   - names: resolves the handles that members ask for; shares no memory with the other.
    package init(members: IdentityResolver, names: IdentityResolver) {
        self.init(describe: { await members.account($0) }, find: { await names.account(named: $0) })
    }

    /// Where nobody can be asked.
    package static let unknown = Accounts(describe: { _ in nil }, find: { _ in nil })

    /// What an account publishes; nil where its document cannot be had. For accounts that are known here alone.
    package func description(of account: DID) async -> AccountDescription? { await describe(account) }

    /// The account that a DID or a handle names, to this caller; nil looks like an account that nobody knows.
    package func account(_ identifier: String, for caller: Caller) async -> DID? {
        if let did = try? DID(identifier) { return did }
        guard let handle = try? Handle(identifier) else { return nil }
        switch caller {
        case .user, .appView: return await find(handle)
        case .anonymous, .administrator: return nil
        }
    }
}

extension IdentityResolver {
    /// What the account publishes, its handle asked in turn; nil where its document cannot be had.
    package func account(_ did: DID) async -> AccountDescription? {
        let deadline = newDeadline()
        // best effort: what cannot be asked now is not known now.
        guard let document = try? await document(of: did, refresh: false, until: deadline) else { return nil }
        guard let handle = document.handle else {
            return AccountDescription(document: document.value, handle: nil, handleIsCorrect: false)
        }
        let back = try? await self.did(of: handle, until: deadline)
        return AccountDescription(document: document.value, handle: handle, handleIsCorrect: back == did)
    }

    /// The account whose handle this is: the one that the handle names, and that names the handle.
    package func account(named handle: Handle) async -> DID? {
        let deadline = newDeadline()
        // best effort: whoever cannot be asked has no account here.
        guard let did = try? await did(of: handle, until: deadline),
            let document = try? await document(of: did, refresh: false, until: deadline)
        else { return nil }
        return document.handle == handle.normalized ? did : nil
    }
}
