import NIOCore

/// Who keeps whom waiting on one connection: pure, times come in, a verdict comes out.
///
/// Three waits are the client's doing, and each has its own measure: for a request's head, for a body that the server wants to
/// read, and for an answer to be taken in. While the server works, or does not read, no time runs against the client.
struct ConnectionWatch {
    private let patience: ConnectionPatience
    /// Since when no answer is due; nil while one is.
    private var idleSince: NIODeadline?
    private var readsBody = false
    /// Since when the server waits for bytes of the body.
    private var wantsBodySince: NIODeadline?
    private var waitedForBody: TimeAmount = .zero
    private var bodyBytes = 0
    private var unwantedBytes = 0
    /// Requests whose answers have not ended; more than one where a client sends ahead.
    private var answersDue = 0
    /// Since when the client takes nothing in.
    private var blockedSince: NIODeadline?

    init(_ patience: ConnectionPatience, now: NIODeadline) {
        self.patience = patience
        idleSince = now
    }

    /// The server reads: from here on it waits for the client.
    mutating func wantsBytes(at now: NIODeadline) {
        if readsBody, wantsBodySince == nil { wantsBodySince = now }
    }

    mutating func headCame(at now: NIODeadline) {
        idleSince = nil
        answersDue += 1
        readsBody = true
        wantsBodySince = nil
        waitedForBody = .zero
        bodyBytes = 0
        unwantedBytes = 0
    }

    mutating func bodyCame(_ count: Int, at now: NIODeadline) {
        if let since = wantsBodySince { waitedForBody = waitedForBody + (now - since) }
        wantsBodySince = nil
        bodyBytes += count
        if answersDue == 0 { unwantedBytes += count }
    }

    mutating func bodyEnded(at now: NIODeadline) {
        readsBody = false
        wantsBodySince = nil
        if answersDue == 0 { idleSince = now }
    }

    mutating func answerEnded(at now: NIODeadline) {
        answersDue = max(0, answersDue - 1)  // An answer to what was no request ends too.
        if answersDue == 0 { idleSince = now }  // What is left of a body after its answer has as long as a head has.
    }

    mutating func writabilityChanged(to isWritable: Bool, at now: NIODeadline) {
        blockedSince = isWritable ? nil : blockedSince ?? now
    }

    /// Whether so much of a body came after its answer that the client will not stop.
    var hasTakenEnough: Bool { unwantedBytes > patience.unwantedBytesMax }

    func isExpired(at now: NIODeadline) -> Bool {
        if let blockedSince, now - blockedSince >= TimeAmount(patience.answer) { return true }
        if let idleSince { return now - idleSince >= TimeAmount(patience.head) }
        guard let wantsBodySince else { return false }
        return waitedForBody + (now - wantsBodySince) >= TimeAmount(patience.body) + earned
    }

    /// What the bytes that came have earned, at the rate that is asked for.
    private var earned: TimeAmount {
        .milliseconds(Int64(bodyBytes) * 1000 / Int64(max(1, patience.bodyBytesPerSecond)))
    }
}
