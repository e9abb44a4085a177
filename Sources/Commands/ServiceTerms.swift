package import ATProto

/// What the service's settings say about writes and memberships.
package struct ServiceTerms: Sendable {
    package let serviceDID: DID
    /// The qualified boundaries that may be granted and written to now.
    package let allowedBoundaries: [String]
    /// The qualified boundaries that a new member gets.
    package let autoEnrollBoundaries: [String]

    package init(serviceDID: DID, allowedBoundaries: [String], autoEnrollBoundaries: [String]) {
        self.serviceDID = serviceDID
        self.allowedBoundaries = allowedBoundaries
        self.autoEnrollBoundaries = autoEnrollBoundaries.isEmpty ? allowedBoundaries : autoEnrollBoundaries
    }
}
