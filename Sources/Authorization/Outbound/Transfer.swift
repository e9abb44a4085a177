/// One request on its way.
///
/// `@unchecked Sendable`: until it is pushed only its maker has it, from then on only the loop's thread reads and writes it.
final class Transfer: @unchecked Sendable {
    static let headerBytesMax = 32 << 10

    let request: OutboundRequest
    let deadline: ContinuousClock.Instant
    private var continuation: CheckedContinuation<Result<OutboundResponse, OutboundError>, Never>?
    private(set) var body: [UInt8] = []
    private var headerBytes = 0
    private(set) var headers = OutboundResponse.Headers()
    /// Set by a callback that broke the transfer off; libcurl then reports no more than that.
    private(set) var fault: OutboundError?
    private(set) var addressesRefused = 0
    private(set) var addressesAdmitted = 0

    init(_ request: OutboundRequest, _ continuation: CheckedContinuation<Result<OutboundResponse, OutboundError>, Never>) {
        self.request = request
        self.continuation = continuation
        deadline = .now + request.timeout
    }

    func finish(_ result: Result<OutboundResponse, OutboundError>) {
        continuation?.resume(returning: result)
        continuation = nil
    }

    /// - Returns: whether the transfer may go on.
    func receive(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count <= request.bytesMax - body.count else {
            fault = .tooLarge(max: request.bytesMax)
            return false
        }
        body.append(contentsOf: bytes)
        return true
    }

    /// One line of a head. Those of all responses count, of interim ones too: a server may send them without end.
    func receiveHeader(_ line: UnsafeRawBufferPointer) -> Bool {
        headerBytes += line.count
        guard headerBytes <= Self.headerBytesMax else {
            fault = .tooLarge(max: Self.headerBytesMax)
            return false
        }
        keepHeader(line)
        return true
    }

    private func keepHeader(_ line: UnsafeRawBufferPointer) {
        // The head of another response, behind an interim one.
        if line.starts(with: "HTTP/".utf8) { headers = OutboundResponse.Headers() }
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon <= 16 else { return }
        var value: Slice<UnsafeRawBufferPointer> = line[line.index(after: colon)...].drop { $0 <= 0x20 }
        while let last = value.last, last <= 0x20 { value.removeLast() }
        // What is no printable ASCII is as if it were not there.
        guard value.allSatisfy({ 0x20...0x7E ~= $0 }) else { return }
        let text = String(decoding: value, as: UTF8.self)
        switch String(decoding: line[..<colon], as: UTF8.self).lowercased() {
        case "dpop-nonce": headers.nonce = text
        case "www-authenticate": headers.challenge = text
        case "retry-after": headers.retryAfter = text
        case "location": headers.location = text
        case "set-cookie": headers.cookie = text
        default: break
        }
    }

    func judge(_ address: [UInt8], port: UInt16, by filter: AddressFilter) -> Bool {
        let isAdmitted = filter.admits(address, port: port)
        if isAdmitted { addressesAdmitted += 1 } else { addressesRefused += 1 }
        return isAdmitted
    }
}
