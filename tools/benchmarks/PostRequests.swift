import ATProto
import Commands

/// Requests that create posts, each with another text, put together from parts made before.
struct PostRequests {
    private let parts: [(head: String, tail: String)]
    private var count = 0

    init(seed: UInt64) {
        var posts = StratosPosts(seed: seed)
        parts = (0..<256).map { _ in
            var record = posts.next().record
            record["text"] = .string("MARK " + (record["text"]?.stringValue ?? ""))
            let text = String(decoding: DataModelJSON.encode(.map(record)), as: UTF8.self)
            let mark = text.split(separator: "MARK", maxSplits: 1)
            return (String(mark[0]), String(mark[1]))
        }
    }

    mutating func next(by did: DID) -> [UInt8] {
        HTTPLoad.request("POST", "/xrpc/com.atproto.repo.createRecord", by: did.description, json: nextBody(by: did))
    }

    mutating func nextBody(by did: DID) -> String {
        count += 1
        let part = parts[count % parts.count]
        return #"{"repo":"\#(did)","collection":"\#(RecordRules.postCollection)","record":\#(part.head)\#(count)\#(part.tail)}"#
    }
}
