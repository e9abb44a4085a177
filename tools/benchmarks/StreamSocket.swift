import Glibc
import Simulation

/// The reading end of a stream over a bare socket, as fast as bytes can be cut into messages: it takes little from the server.
final class StreamSocket {
    let descriptor: Int32
    private var buffer: UnsafeMutableRawBufferPointer
    private var start = 0
    private var end = 0

    /// - Parameters:
    ///   - query: behind the method's name; the benchmark's sync token is put behind it.
    ///   - receiveBytes: asks for a small receive buffer.
    init(port: UInt16, query: String, receiveBytes: Int32? = nil) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        buffer = .allocate(byteCount: receiveBytes == nil ? 4096 : 512, alignment: 8)
        if var receiveBytes { setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receiveBytes, socklen_t(MemoryLayout<Int32>.size)) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard code == 0 else { throw BenchmarkFailure("connect: \(String(cString: strerror(errno)))") }
        let target = "/xrpc/zone.stratos.sync.subscribeRecords?syncToken=\(StreamsSuite.syncToken)\(query)"
        let head = HTTPConnection.head("GET", target, headers: WebSocketClient.handshake)
        guard head.withUnsafeBytes({ send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }) == head.count else {
            throw BenchmarkFailure("the handshake was not sent")
        }
        try readHead()
    }

    deinit {
        Glibc.close(descriptor)
        buffer.deallocate()
    }

    private func readHead() throws {
        var head: [UInt8] = []
        while !head.suffix(4).elementsEqual([13, 10, 13, 10]) {
            var byte: UInt8 = 0
            guard recv(descriptor, &byte, 1, 0) == 1 else {
                throw BenchmarkFailure("no handshake: \(String(decoding: head, as: UTF8.self))")
            }
            head.append(byte)
        }
        guard head.starts(with: Array("HTTP/1.1 101".utf8)) else { throw BenchmarkFailure(String(decoding: head, as: UTF8.self)) }
    }

    /// Waits for bytes, gives the messages that are whole by then, and answers pings.
    /// - Returns: how many messages came.
    func read(_ take: (UnsafeRawBufferPointer) -> Void = { _ in }) throws -> Int {
        if start > 0 {
            buffer.baseAddress!.copyMemory(from: buffer.baseAddress! + start, byteCount: end - start)
            (start, end) = (0, end - start)
        }
        if end == buffer.count {
            let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: min(buffer.count * 4, 4 << 20), alignment: 8)
            larger.copyMemory(from: UnsafeRawBufferPointer(buffer))
            buffer.deallocate()
            buffer = larger
        }
        let count = recv(descriptor, buffer.baseAddress! + end, buffer.count - end, 0)
        guard count > 0 else { throw BenchmarkFailure("the stream has ended") }
        end += count
        if count == buffer.count - (end - count), buffer.count < 1 << 20 {
            // More than fits is there: a larger buffer is asked less often.
            let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: buffer.count * 4, alignment: 8)
            larger.copyMemory(from: UnsafeRawBufferPointer(buffer))
            buffer.deallocate()
            buffer = larger
        }
        return try messages(take)
    }

    /// Says that we are here, with what the ping said.
    private func answer(ping: UnsafeRawBufferPointer) throws {
        let pong = WebSocketClient.frame(0xA, Array(ping))
        guard pong.withUnsafeBytes({ send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }) == pong.count else {
            throw BenchmarkFailure("a ping could not be answered")
        }
    }

    private func messages(_ take: (UnsafeRawBufferPointer) -> Void) throws -> Int {
        var count = 0
        while end - start >= 2 {
            var head = 2
            var length = Int(buffer[start + 1] & 0x7F)
            if length == 126 {
                guard end - start >= 4 else { break }
                length = Int(buffer[start + 2]) << 8 | Int(buffer[start + 3])
                head = 4
            } else if length == 127 {
                guard end - start >= 10 else { break }
                length = buffer[(start + 2)..<(start + 10)].reduce(0) { $0 << 8 | Int($1) }
                head = 10
            }
            guard end - start >= head + length else { break }
            let payload = UnsafeRawBufferPointer(rebasing: buffer[(start + head)..<(start + head + length)])
            switch buffer[start] & 0x0F {
            case 0x2:
                take(payload)
                count += 1
            case 0x9: try answer(ping: payload)
            default: break
            }
            start += head + length
        }
        return count
    }
}
