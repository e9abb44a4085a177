package import ATProto
package import EventLog
package import SQLiteStore

/// All that was appended to a log, kept beside it: what every read of the log must give, byte for byte.
package struct RecordedLog: Sendable {
    /// In order of position; one generation.
    package private(set) var events: [StoredEvent] = []
    package private(set) var logs: [DID: [StoredEvent]] = [:]
    package private(set) var blocks: [DID: [CID: [UInt8]]] = [:]
    package private(set) var requests: [[UInt8]: RequestRow] = [:]
    private var heads: [DID: Head] = [:]
    private var appends: [Append] = []

    package init() {}

    package var actors: [DID] { logs.keys.sorted { $0.description.utf8.lexicographicallyPrecedes($1.description.utf8) } }

    /// Takes an append that was acknowledged.
    package mutating func take(_ append: Append) {
        appends.append(append)
        for signed in append.events {
            let stored = StoredEvent(
                position: UInt64(events.count + 1), bytes: signed.bytes, cid: signed.cid, body: signed.bodyBytes, leaf: signed.leaf)
            events.append(stored)
            logs[append.actor, default: []].append(stored)
            heads[append.actor] = signed.head
        }
        for block in append.blocks { blocks[append.actor, default: [:]][block.cid] = block.bytes }
        if let request = append.request { requests[request.scope] = request }
    }

    /// What was recorded when so many events were; nil where an append went past that number.
    package func prefix(events count: Int) -> RecordedLog? {
        var earlier = RecordedLog()
        for append in appends where earlier.events.count < count { earlier.take(append) }
        return earlier.events.count == count ? earlier : nil
    }

    /// How a store's answers differ from what was recorded.
    package struct Differences: Sendable {
        /// Reads that were refused: the store said that something is wrong.
        package var refused: [String] = []
        /// Answers that are shorter, or longer, than what was recorded, without a word.
        package var incomplete: [String] = []
        /// Answers with other bytes than were appended: what must never be.
        package var altered: [String] = []

        package var areNone: Bool { refused.isEmpty && incomplete.isEmpty && altered.isEmpty }
    }

    /// Reads everything, in each of the ways there are, and compares. All in one turn of a reader's thread, because a proof does this a
    /// million times and a turn costs more than a read.
    /// - Parameter position: where the store says that the log ends.
    package func differences(reading reader: LogReader, upTo position: UInt64) -> Differences {
        var found = Differences()
        attempt("the events by position", &found) { found throws(EventLogError) in
            let read = try reader.events(afterPosition: 0, limit: events.count + 1, known: position)
            compare(read, with: events, "events by position", &found)
        }
        attempt("the list of actors", &found) { found throws(EventLogError) in
            if try reader.actors(after: nil, limit: actors.count + 1) != actors { found.incomplete.append("the list of actors") }
        }
        for actor in actors { compare(actor, reading: reader, &found) }
        for row in requests.values {
            attempt("the row of a request", &found) { found throws(EventLogError) in
                guard let read = try reader.request(row.scope) else { return found.incomplete.append("the row of a request") }
                if read != row { found.altered.append("the row of a request") }
            }
        }
        return found
    }

    private func compare(_ actor: DID, reading reader: LogReader, _ found: inout Differences) {
        let log = logs[actor] ?? []
        attempt("the events of \(actor)", &found) { found throws(EventLogError) in
            let read = try reader.events(of: actor, after: 0, limit: log.count + 1, known: 0)
            compare(read, with: log, "events of \(actor)", &found)
        }
        attempt("the head of \(actor)", &found) { found throws(EventLogError) in
            let head = try reader.actorRow(actor).map { row throws(EventLogError) in try reader.head(of: actor, row: row) } ?? .empty
            guard head != heads[actor] else { return }
            let isEarlier = head == .empty || log.contains { $0.cid == head.event }
            if isEarlier { found.incomplete.append("the head of \(actor)") } else { found.altered.append("the head of \(actor)") }
        }
        guard let blocks = blocks[actor], !blocks.isEmpty else { return }
        attempt("the blocks of \(actor)", &found) { found throws(EventLogError) in
            let read = try reader.blocks(Array(blocks.keys), of: actor)
            for (cid, bytes) in blocks where read[cid] != bytes {
                if read[cid] == nil { found.incomplete.append("block \(cid)") } else { found.altered.append("block \(cid)") }
            }
        }
    }

    private func compare(_ read: [StoredEvent], with recorded: [StoredEvent], _ what: String, _ found: inout Differences) {
        guard read != recorded else { return }
        // An answer that is only shorter has lost something; in any other something stands that was never there.
        let isShorter = read.count < recorded.count && read == recorded.filter(Set(read).contains)
        if isShorter {
            found.incomplete.append("\(what): \(read.count) of \(recorded.count)")
        } else {
            found.altered.append(what)
        }
    }

    private func attempt(_ what: String, _ found: inout Differences, _ body: (inout Differences) throws(EventLogError) -> Void) {
        do throws(EventLogError) { try body(&found) } catch { found.refused.append("\(what): \(error)") }
    }
}
