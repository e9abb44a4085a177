package import ATProto

/// Who may come in of their own accord, as the settings say it (wire contract, section 3.1). What the operator and the administrators
/// do is not asked about: whom they enroll is enrolled.
package struct EnrollmentTerms: Hashable, Sendable {
    package enum Mode: String, Sendable {
        /// Everybody.
        case open
        /// Those who are listed, by their DID or by the server that keeps their account; either will do.
        case allowlist
    }

    package let mode: Mode
    package let dids: Set<DID>
    package let pdsOrigins: Set<String>

    /// - Parameter pdsOrigins: each in the one form of an origin: small letters, no default port, no slash at the end.
    package init(mode: Mode, dids: Set<DID> = [], pdsOrigins: Set<String> = []) {
        self.mode = mode
        self.dids = dids
        self.pdsOrigins = pdsOrigins
    }

    /// - Parameter pds: the origin of the account's own server, as its DID document names it, in the same form; nil where there is none.
    package func admits(_ did: DID, pds: String?) -> Bool {
        switch mode {
        case .open: true
        case .allowlist: dids.contains(did) || pds.map(pdsOrigins.contains) ?? false
        }
    }
}
