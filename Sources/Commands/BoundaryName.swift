/// The names of boundaries. A *bare* name is 1–64 bytes of `A–Z a–z 0–9 . _ -`; a *qualified* one is `<service DID>/<bare name>`,
/// and only qualified names stand in memberships and records (architecture, section 5).
package enum BoundaryName {
    private static let slash = UInt8(ascii: "/")

    package static func isBare(_ name: String) -> Bool {
        let bytes = name.utf8
        return (1...64).contains(bytes.count)
            && bytes.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                    UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                    true
                default: false
                }
            }
    }

    package static func qualified(_ bare: String, service: String) -> String { "\(service)/\(bare)" }

    /// The service that a qualified name belongs to, or nil for anything that is not qualified.
    package static func service(of name: String) -> String? {
        guard name.hasPrefix("did:"), let slash = name.utf8.firstIndex(of: slash) else { return nil }
        return String(name[..<slash])
    }

    package static func bare(of name: String) -> String {
        guard name.hasPrefix("did:"), let slash = name.utf8.firstIndex(of: slash) else { return name }
        return String(name[name.utf8.index(after: slash)...])
    }

    /// A name as an operator types it, made qualified. A name of another service, or of a wrong form, gives nil.
    package static func qualify(_ name: String, service: String) -> String? {
        if isBare(name) { return qualified(name, service: service) }
        guard self.service(of: name) == service, isBare(bare(of: name)) else { return nil }
        return name
    }
}
