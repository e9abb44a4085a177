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

    /// Headers of all responses count, of interim ones too: a server may send those without end.
    func receiveHeader(_ count: Int) -> Bool {
        headerBytes += count
        if headerBytes > Self.headerBytesMax { fault = .tooLarge(max: Self.headerBytesMax) }
        return headerBytes <= Self.headerBytesMax
    }

    func judge(_ address: [UInt8], port: UInt16, by filter: AddressFilter) -> Bool {
        let isAdmitted = filter.admits(address, port: port)
        if isAdmitted { addressesAdmitted += 1 } else { addressesRefused += 1 }
        return isAdmitted
    }
}
