package import ATProto

/// Where flows and sessions lie, sealed: what is durable on return stays so.
package struct OAuthStorage: Sendable {
    package enum StoredSession: Hashable, Sendable {
        case sealed([UInt8])
        /// The server ended it; why, and when, in seconds since 1970.
        case ended(reason: String, at: Int64)
    }

    /// Keeps a flow under its identifier until it expires; false where as many wait already as may.
    /// - Parameters: identifier, sealed bytes, seconds since 1970.
    package let keepFlow: @Sendable (_ id: [UInt8], _ sealed: [UInt8], _ expires: Int64) async throws -> Bool
    package let flow: @Sendable (_ id: [UInt8]) async throws -> [UInt8]?
    /// Removes the flow. True for one caller only, however many come.
    package let takeFlow: @Sendable (_ id: [UInt8]) async throws -> Bool
    package let session: @Sendable (DID) async throws -> StoredSession?
    package let keepSession: @Sendable (DID, StoredSession) async throws -> Void
    package let removeSession: @Sendable (DID) async throws -> Void

    package init(
        keepFlow: @escaping @Sendable (_ id: [UInt8], _ sealed: [UInt8], _ expires: Int64) async throws -> Bool,
        flow: @escaping @Sendable (_ id: [UInt8]) async throws -> [UInt8]?,
        takeFlow: @escaping @Sendable (_ id: [UInt8]) async throws -> Bool,
        session: @escaping @Sendable (DID) async throws -> StoredSession?,
        keepSession: @escaping @Sendable (DID, StoredSession) async throws -> Void,
        removeSession: @escaping @Sendable (DID) async throws -> Void
    ) {
        self.keepFlow = keepFlow
        self.flow = flow
        self.takeFlow = takeFlow
        self.session = session
        self.keepSession = keepSession
        self.removeSession = removeSession
    }
}
