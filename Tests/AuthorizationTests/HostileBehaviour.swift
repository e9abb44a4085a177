import Simulation

/// What a server does that should give a JSON document.
enum HostileBehaviour: String, CaseIterable, Sendable {
    case silent, dribbling, huge, endless, redirectsToMetadata, redirectsToLoopback, lyingType, lyingLength, other, both
    case compressed, garbage, hangsUp, deep, failing

    /// - Parameters:
    ///   - document: an object, what it should give.
    ///   - other: another object, in the same form.
    ///   - inner: the origin of a server that nobody may be sent to.
    func answer(_ connection: RawConnection, document: String, other: String, inner: String) {
        func respond(_ body: String, status: Int = 200, type: String = "application/did+ld+json", headers: String = "") {
            connection.respond(status: status, type: type, headers: headers, body: [UInt8](body.utf8))
        }
        switch self {
        case .silent: connection.waitForEnd()
        case .dribbling:
            var goesOn = connection.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            while goesOn {
                goesOn = connection.send(" ")
                connection.pause(milliseconds: 10)
            }
        case .huge: respond(document.dropLast() + ",\"a\":\"" + String(repeating: "a", count: 65_536) + "\"}")
        case .endless:
            let block = String(repeating: " ", count: 8192)
            var goesOn = connection.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            while goesOn { goesOn = connection.send(block) }
        case .redirectsToMetadata: respond("", status: 302, headers: "Location: http://169.254.169.254/latest/meta-data/\r\n")
        case .redirectsToLoopback: respond("", status: 307, headers: "Location: \(inner)/\r\n")
        case .lyingType: respond(document, type: "text/html")
        case .lyingLength:
            connection.send(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: \(document.utf8.count + 1)\r\n\r\n" + document)
        case .other: respond(other)
        case .both: respond(other.dropLast() + "," + document.dropFirst())
        case .compressed:
            connection.respond(headers: "Content-Encoding: gzip\r\n", body: GzipBomb.bytes(expandingTo: 8 << 20))
        case .garbage: connection.send("\u{0}\u{1}\u{2}\r\n\r\n")
        case .hangsUp: break
        case .deep: respond(String(repeating: "[", count: 30_000))
        case .failing: respond(document, status: 500)
        }
    }

    /// Only the end of the time ends it.
    var isSlow: Bool { self == .silent || self == .dribbling }

    var isUnreachable: Bool {
        switch self {
        case .silent, .dribbling, .redirectsToMetadata, .redirectsToLoopback, .lyingLength, .garbage, .hangsUp, .failing: true
        case .huge, .endless, .lyingType, .other, .both, .compressed, .deep: false
        }
    }
}
