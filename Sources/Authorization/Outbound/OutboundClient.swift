internal import CCurl
internal import Glibc
internal import Synchronization

/// HTTP to other servers, with libcurl: one thread drives all transfers (curl multi), callers wait without one.
///
/// What strangers can choose is bounded. The address of each connection is judged after DNS (`AddressFilter`), bodies and headers
/// have a size, requests a time, and both the transfers under way and the requests behind them a number. Redirects are not
/// followed, nothing is decompressed, only http and https are spoken, and neither proxies nor credentials are taken from the
/// environment. Certificates are verified; HTTP/2 is offered with TLS.
///
/// A request is not cancelled with its caller: others may wait for the same answer, and its own time ends it.
package final class OutboundClient: Sendable {
    private let queue: TransferQueue

    /// - Parameters:
    ///   - userAgent: one line, printable ASCII.
    ///   - transfersMax: under way at a time.
    ///   - waitingMax: behind them; one more is answered `overloaded`.
    ///   - certificateAuthorities: a PEM file, in place of the system's.
    package init(
        filter: AddressFilter, userAgent: String, transfersMax: Int = 64, waitingMax: Int = 256, certificateAuthorities: String? = nil
    ) {
        precondition(userAgent.utf8.allSatisfy { 0x20...0x7E ~= $0 }, "a user agent is one line of ASCII")
        queue = TransferQueue(waitingMax: waitingMax)
        let settings = TransferSettings(filter: filter, userAgent: userAgent, certificateAuthorities: certificateAuthorities)
        startThread { [queue] in
            TransferLoop(queue: queue, settings: settings, transfersMax: transfersMax).run()
        }
    }

    deinit { queue.close() }

    package var outbound: Outbound {
        Outbound { [self] request async throws(OutboundError) in try await send(request) }
    }

    /// Ends every request with `closed`, and all that come later. Returns at once.
    package func close() { queue.close() }

    private func send(_ request: OutboundRequest) async throws(OutboundError) -> OutboundResponse {
        guard Self.isPlausible(request.url), request.headers.allSatisfy({ Self.isHeader($0.key, $0.value) }),
            Self.isHeader("Content-Type", request.body?.contentType ?? "none")
        else { throw .invalidURL }
        let result = await withCheckedContinuation { continuation in
            let transfer = Transfer(request, continuation)
            if let refusal = queue.push(transfer) { transfer.finish(.failure(refusal)) }
        }
        return try result.get()
    }

    /// libcurl judges the rest, but it takes C strings, which end earlier than ours may, and guesses a scheme where there is none.
    private static func isPlausible(_ url: String) -> Bool {
        let hasScheme = ["http://", "https://"].contains { url.utf8.starts(with: $0.utf8) }
        return hasScheme && url.utf8.count <= 4096 && url.utf8.allSatisfy { 0x21...0x7E ~= $0 }
    }

    /// A line of its own, and no second one. An empty value would take the header away.
    private static func isHeader(_ name: String, _ value: String) -> Bool {
        !name.isEmpty && !value.isEmpty && name.utf8.allSatisfy { 0x21...0x7E ~= $0 && $0 != UInt8(ascii: ":") }
            && value.utf8.allSatisfy { 0x20...0x7E ~= $0 }
    }
}

private struct TransferSettings: Sendable {
    let filter: AddressFilter
    let userAgent: String
    let certificateAuthorities: String?
}

/// What waits for the loop, and the way to wake it.
private final class TransferQueue: Sendable {
    private struct State {
        var waiting: [Transfer] = []
        var isClosed = false
    }

    private let state = Mutex(State())
    private let waitingMax: Int
    /// Freed by the loop once it has seen `isClosed`; used under the lock and only before.
    nonisolated(unsafe) let multi: UnsafeMutableRawPointer

    init(waitingMax: Int) {
        self.waitingMax = waitingMax
        _ = libraryIsReady
        guard let multi = curl_multi_init() else { preconditionFailure("libcurl gives no handle; only memory can be the reason") }
        self.multi = multi
    }

    /// - Returns: why the transfer was not taken.
    func push(_ transfer: Transfer) -> OutboundError? {
        state.withLock { state in
            if state.isClosed { return .closed }
            if state.waiting.count >= waitingMax { return .overloaded }
            state.waiting.append(transfer)
            curl_multi_wakeup(multi)
            return nil
        }
    }

    func close() {
        state.withLock { state in
            if !state.isClosed { curl_multi_wakeup(multi) }
            state.isClosed = true
        }
    }

    enum Taken {
        /// - Parameter more: whether others still wait.
        case transfers([Transfer], expired: [Transfer], more: Bool)
        case closed([Transfer])
    }

    func take(atMost count: Int) -> Taken {
        state.withLock { state in
            if state.isClosed {
                defer { state.waiting = [] }
                return .closed(state.waiting)
            }
            if state.waiting.isEmpty { return .transfers([], expired: [], more: false) }
            let now = ContinuousClock.now
            let expired = state.waiting.filter { $0.deadline <= now }
            if !expired.isEmpty { state.waiting.removeAll { $0.deadline <= now } }
            let taken = Array(state.waiting.prefix(count))
            state.waiting.removeFirst(taken.count)
            return .transfers(taken, expired: expired, more: !state.waiting.isEmpty)
        }
    }
}

/// The thread that owns every handle of libcurl.
private final class TransferLoop {
    /// libcurl looks names up on threads of its own and cannot stop `getaddrinfo`: a lookup may live on after its request ended.
    private static let lookupsLeftMax = 256
    private static let lookupLife: Duration = .seconds(30)

    private struct Running {
        let transfer: Transfer
        let context: Unmanaged<TransferContext>
        let headers: UnsafeMutablePointer<curl_slist>?
    }

    private let queue: TransferQueue
    private let settings: TransferSettings
    private let transfersMax: Int
    private var running: [UnsafeMutableRawPointer: Running] = [:]
    /// When the lookups that outlived their requests are over at the latest; in order.
    private var lookupsLeft: [ContinuousClock.Instant] = []

    init(queue: TransferQueue, settings: TransferSettings, transfersMax: Int) {
        self.queue = queue
        self.settings = settings
        self.transfersMax = transfersMax
    }

    func run() {
        // Idle connections that are kept, for the directory of did:plc above all.
        ccurl_multi_set_long(queue.multi, CURLMOPT_MAXCONNECTS, 32)
        while true {
            switch queue.take(atMost: room) {
            case .closed(let waiting):
                for transfer in waiting { transfer.finish(.failure(.closed)) }
                close()
                return
            case .transfers(let taken, let expired, let more):
                for transfer in expired { transfer.finish(.failure(.timedOut)) }
                for transfer in taken { start(transfer) }
                turn(whileOthersWait: more)
            }
        }
    }

    private var room: Int {
        let now = ContinuousClock.now
        lookupsLeft.removeAll { $0 <= now }
        return lookupsLeft.count >= Self.lookupsLeftMax ? 0 : max(0, transfersMax - running.count)
    }

    /// Moves every transfer as far as it goes, ends those that are done, and waits for the next thing to happen.
    private func turn(whileOthersWait more: Bool) {
        var count: Int32 = 0
        curl_multi_perform(queue.multi, &count)
        var left: Int32 = 0
        var ended = false
        while let message = curl_multi_info_read(queue.multi, &left) {
            guard message.pointee.msg == CURLMSG_DONE, let handle = message.pointee.easy_handle else { continue }
            end(handle, message.pointee.data.result)
            ended = true
        }
        if ended && more { return }
        // A push wakes it; what waits behind others may run out of time meanwhile.
        let code = curl_multi_poll(queue.multi, nil, 0, more ? 50 : 60_000, nil)
        // Only without memory; then this keeps the loop from spinning.
        if code != CURLM_OK { usleep(10_000) }
    }

    private func start(_ transfer: Transfer) {
        let left = transfer.deadline - .now
        guard left > .zero else { return transfer.finish(.failure(.timedOut)) }
        guard let handle = curl_easy_init() else { return transfer.finish(.failure(.unreachable("libcurl gives no handle"))) }
        let context = Unmanaged.passRetained(TransferContext(transfer: transfer, filter: settings.filter))
        var headers = curl_slist_append(nil, "Accept: \(transfer.request.accept)")
        var lines = ["Accept-Encoding: identity"] + transfer.request.headers.map { "\($0.key): \($0.value)" }
        // Without the last, libcurl asks before it sends a large body, and waits.
        if let body = transfer.request.body { lines += ["Content-Type: \(body.contentType)", "Expect:"] }
        for line in lines { headers = curl_slist_append(headers, line) ?? headers }
        running[handle] = Running(transfer: transfer, context: context, headers: headers)
        guard configure(handle, transfer, context, headers, left), curl_multi_add_handle(queue.multi, handle) == CURLM_OK else {
            release(handle)
            return transfer.finish(.failure(.unreachable("libcurl does not take the request")))
        }
    }

    /// - Returns: whether libcurl knows and accepts every option: none of them may be missing.
    private func configure(
        _ handle: UnsafeMutableRawPointer, _ transfer: Transfer, _ context: Unmanaged<TransferContext>,
        _ headers: UnsafeMutablePointer<curl_slist>?, _ left: Duration
    ) -> Bool {
        let milliseconds = Int(left.components.seconds) * 1000 + Int(left.components.attoseconds / 1_000_000_000_000_000)
        var texts: [(CURLoption, String)] = [
            (CURLOPT_URL, transfer.request.url), (CURLOPT_USERAGENT, settings.userAgent),
            (CURLOPT_PROTOCOLS_STR, "http,https"), (CURLOPT_REDIR_PROTOCOLS_STR, "https"),
            // An empty name means no proxy; without the option it would be the environment's.
            (CURLOPT_PROXY, ""),
        ]
        if let file = settings.certificateAuthorities { texts.append((CURLOPT_CAINFO, file)) }
        let numbers: [(CURLoption, Int)] = [
            (CURLOPT_TIMEOUT_MS, max(1, milliseconds)), (CURLOPT_CONNECTTIMEOUT_MS, max(1, milliseconds)), (CURLOPT_NOSIGNAL, 1),
            // Without it the whole loop would wait, ten seconds and more, for the lookup of a request whose time is over.
            (CURLOPT_QUICK_EXIT, 1),
            (CURLOPT_FOLLOWLOCATION, 0), (CURLOPT_DISALLOW_USERNAME_IN_URL, 1), (CURLOPT_HTTP09_ALLOWED, 0),
            (CURLOPT_SSL_VERIFYPEER, 1), (CURLOPT_SSL_VERIFYHOST, 2), (CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_2TLS)),
            (CURLOPT_SSLVERSION, Int(CURL_SSLVERSION_TLSv1_2)),
        ]
        let functions = [
            ccurl_set_bytes_function(handle, CURLOPT_WRITEFUNCTION, receiveBody),
            ccurl_set_bytes_function(handle, CURLOPT_HEADERFUNCTION, receiveHeader),
            ccurl_set_open_socket_function(handle, openSocket),
        ]
        let pointers = [CURLOPT_WRITEDATA, CURLOPT_HEADERDATA, CURLOPT_OPENSOCKETDATA].map {
            ccurl_set_pointer(handle, $0, context.toOpaque())
        }
        return
            (texts.map { ccurl_set_text(handle, $0, $1) } + numbers.map { ccurl_set_long(handle, $0, $1) } + functions + pointers
            + bodyOptions(handle, transfer.request)
            + [
                ccurl_set_pointer(handle, CURLOPT_HTTPHEADER, headers),
                ccurl_set_offset(handle, CURLOPT_MAXFILESIZE_LARGE, curl_off_t(transfer.request.bytesMax)),
            ]).allSatisfy { $0 == CURLE_OK }
    }

    private func bodyOptions(_ handle: UnsafeMutableRawPointer, _ request: OutboundRequest) -> [CURLcode] {
        guard let body = request.body else { return [] }
        // The length first: only then does libcurl know how much to copy.
        let length = ccurl_set_offset(handle, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.bytes.count))
        let copied = body.bytes.withUnsafeBytes { bytes in
            withUnsafePointer(to: UInt8(0)) { none in
                ccurl_set_pointer(
                    handle, CURLOPT_COPYPOSTFIELDS, UnsafeMutableRawPointer(mutating: bytes.baseAddress ?? UnsafeRawPointer(none)))
            }
        }
        // libcurl sends a request again where a kept connection turns out to be closed; on a new one it never does.
        return [length, copied, ccurl_set_long(handle, CURLOPT_FRESH_CONNECT, request.isRepeatable ? 0 : 1)]
    }

    private func end(_ handle: UnsafeMutableRawPointer, _ code: CURLcode) {
        guard let transfer = running[handle]?.transfer else { return }
        let result = outcome(handle, code, transfer)
        if result == .failure(.timedOut) {
            var lookup: curl_off_t = 0
            ccurl_get_offset(handle, CURLINFO_NAMELOOKUP_TIME_T, &lookup)
            if lookup == 0 { lookupsLeft.append(.now + Self.lookupLife) }
        }
        curl_multi_remove_handle(queue.multi, handle)
        release(handle)
        transfer.finish(result)
    }

    private func outcome(
        _ handle: UnsafeMutableRawPointer, _ code: CURLcode, _ transfer: Transfer
    ) -> Result<OutboundResponse, OutboundError> {
        if let fault = transfer.fault { return .failure(fault) }
        switch code {
        case CURLE_OK:
            var status = 0
            ccurl_get_long(handle, CURLINFO_RESPONSE_CODE, &status)
            var type: UnsafeMutableRawPointer?
            ccurl_get_pointer(handle, CURLINFO_CONTENT_TYPE, &type)
            let contentType = type.map { String(cString: $0.assumingMemoryBound(to: CChar.self)) }
            return .success(
                OutboundResponse(status: status, contentType: contentType, headers: transfer.headers, body: transfer.body))
        case CURLE_URL_MALFORMAT, CURLE_LOGIN_DENIED: return .failure(.invalidURL)
        case CURLE_OPERATION_TIMEDOUT: return .failure(.timedOut)
        case CURLE_FILESIZE_EXCEEDED: return .failure(.tooLarge(max: transfer.request.bytesMax))
        case CURLE_COULDNT_CONNECT where transfer.addressesRefused > 0 && transfer.addressesAdmitted == 0:
            return .failure(.refusedAddress)
        default: return .failure(.unreachable(String(cString: curl_easy_strerror(code))))
        }
    }

    private func release(_ handle: UnsafeMutableRawPointer) {
        curl_easy_cleanup(handle)
        guard let ended = running.removeValue(forKey: handle) else { return }
        curl_slist_free_all(ended.headers)
        ended.context.release()
    }

    private func close() {
        for (handle, entry) in running {
            curl_multi_remove_handle(queue.multi, handle)
            release(handle)
            entry.transfer.finish(.failure(.closed))
        }
        curl_multi_cleanup(queue.multi)
    }
}

/// What libcurl hands back to the callbacks.
private final class TransferContext {
    let transfer: Transfer
    let filter: AddressFilter

    init(transfer: Transfer, filter: AddressFilter) {
        self.transfer = transfer
        self.filter = filter
    }

    static func of(_ pointer: UnsafeMutableRawPointer?) -> TransferContext? {
        pointer.map { Unmanaged<TransferContext>.fromOpaque($0).takeUnretainedValue() }
    }
}

/// libcurl wants this once before anything else.
private let libraryIsReady: Void = {
    let code = curl_global_init(Int(CURL_GLOBAL_ALL))
    precondition(code == CURLE_OK, "libcurl does not start")
}()

/// A callback breaks its transfer off by taking fewer bytes than it was given.
private func receiveBody(_ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ context: UnsafeMutableRawPointer?) -> Int {
    let received = UnsafeRawBufferPointer(start: bytes, count: size * count)
    return TransferContext.of(context)?.transfer.receive(received) == true ? received.count : 0
}

private func receiveHeader(_ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ context: UnsafeMutableRawPointer?) -> Int {
    let received = UnsafeRawBufferPointer(start: bytes, count: size * count)
    return TransferContext.of(context)?.transfer.receiveHeader(received) == true ? received.count : 0
}

/// Called for each address of a name, right before the connection: what is judged here is what is connected to.
private func openSocket(
    _ context: UnsafeMutableRawPointer?, _ purpose: curlsocktype, _ address: UnsafeMutablePointer<curl_sockaddr>?
) -> curl_socket_t {
    guard purpose == CURLSOCKTYPE_IPCXN, let context = TransferContext.of(context), let address else { return ccurl_socket_bad }
    // The structure ends with the shortest kind of address; libcurl has room for the longer ones behind it.
    let raw = UnsafeRawPointer(address) + MemoryLayout<curl_sockaddr>.offset(of: \.addr)!
    let endpoint: (bytes: [UInt8], port: UInt16)
    switch address.pointee.family {
    case AF_INET:
        let inet = raw.loadUnaligned(as: sockaddr_in.self)
        endpoint = (withUnsafeBytes(of: inet.sin_addr) { Array($0) }, UInt16(bigEndian: inet.sin_port))
    case AF_INET6:
        let inet = raw.loadUnaligned(as: sockaddr_in6.self)
        endpoint = (withUnsafeBytes(of: inet.sin6_addr) { Array($0) }, UInt16(bigEndian: inet.sin6_port))
    default: return ccurl_socket_bad
    }
    guard context.transfer.judge(endpoint.bytes, port: endpoint.port, by: context.filter) else { return ccurl_socket_bad }
    let type = address.pointee.socktype | Int32(SOCK_CLOEXEC.rawValue)
    return socket(address.pointee.family, type, address.pointee.`protocol`)
}
