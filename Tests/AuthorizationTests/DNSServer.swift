import Foundation
import Simulation
import Synchronization

/// A name server on 127.0.0.1 that answers over UDP, and over TCP if the test says what, with the bytes that the test makes of
/// each question.
final class DNSServer: Sendable {
    let port: UInt16
    private let udp: Int32
    private let tcp: Int32
    private let count = Counter()

    /// - Parameters:
    ///   - answer: the message for a question's message, or nil for silence.
    ///   - overTCP: the same for questions over TCP, after a cut answer; nil refuses connections.
    init(_ answer: @escaping @Sendable ([UInt8]) -> [UInt8]?, overTCP: (@Sendable ([UInt8]) -> [UInt8]?)? = nil) throws {
        udp = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        var address = sockaddr_in.loopback(port: 0)
        guard address.withSockaddr({ [udp] in bind(udp, $0, $1) }) == 0 else { throw RawServer.Failure(operation: "bind", code: errno) }
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        _ = address.withMutableSockaddr { [udp] in getsockname(udp, $0, &length) }
        port = UInt16(bigEndian: address.sin_port)
        tcp = overTCP == nil ? -1 : socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        if let overTCP {
            guard address.withSockaddr({ [tcp] in bind(tcp, $0, $1) }) == 0, listen(tcp, 8) == 0 else {
                throw RawServer.Failure(operation: "listen", code: errno)
            }
            Thread.detachNewThread { [tcp] in Self.serve(tcp, overTCP) }
        }
        Thread.detachNewThread { [udp, count] in
            var buffer = [UInt8](repeating: 0, count: 4096)
            while true {
                var client = sockaddr_in()
                var length = socklen_t(MemoryLayout<sockaddr_in>.size)
                let received = client.withMutableSockaddr { recvfrom(udp, &buffer, buffer.count, 0, $0, &length) }
                if received <= 0 { break }
                count.add()
                guard let reply = answer(Array(buffer[..<received])) else { continue }
                _ = client.withSockaddr { sendto(udp, reply, reply.count, 0, $0, $1) }
            }
            close(udp)
        }
    }

    deinit {
        shutdown(udp, Int32(SHUT_RDWR))
        if tcp >= 0 { shutdown(tcp, Int32(SHUT_RDWR)) }
    }

    /// Questions over UDP.
    var questionCount: Int { count.value }

    private static func serve(_ listener: Int32, _ answer: @Sendable ([UInt8]) -> [UInt8]?) {
        while true {
            let connection = accept(listener, nil, nil)
            if connection < 0 { break }
            var buffer = [UInt8](repeating: 0, count: 4096)
            let received = recv(connection, &buffer, buffer.count, 0)
            // Each message stands behind its length.
            if received > 2, let reply = answer(Array(buffer[2..<received])) {
                let message = [UInt8(reply.count >> 8), UInt8(reply.count & 0xFF)] + reply
                _ = send(connection, message, message.count, Int32(MSG_NOSIGNAL))
            }
            close(connection)
        }
        close(listener)
    }
}

/// DNS messages, written by hand.
enum DNSMessage {
    /// A record of the answer section: its type and data; the owner is the question's name.
    struct Record {
        let type: UInt16
        let data: [UInt8]

        /// One TXT record of the pieces, each of at most 255 bytes.
        static func txt(_ pieces: String...) -> Record {
            Record(type: 16, data: pieces.flatMap { [UInt8($0.utf8.count)] + [UInt8]($0.utf8) })
        }
    }

    /// - Parameters:
    ///   - code: 0 no error, 2 server failure, 3 no such name.
    static func answer(to question: [UInt8], code: UInt8 = 0, isCut: Bool = false, _ records: [Record] = []) -> [UInt8] {
        var message = Array(question[..<2])
        message += [0x80 | (isCut ? 2 : 0) | question[2] & 1, 0x80 | code, 0, 1]
        message += [UInt8(records.count >> 8), UInt8(records.count & 0xFF), 0, 0, 0, 0]
        message += questionSection(question)
        for record in records {
            message += [0xC0, 0x0C, UInt8(record.type >> 8), UInt8(record.type & 0xFF), 0, 1, 0, 0, 0, 60]
            message += [UInt8(record.data.count >> 8), UInt8(record.data.count & 0xFF)] + record.data
        }
        return message
    }

    /// The name that is asked for.
    static func name(_ question: [UInt8]) -> String {
        var labels: [String] = []
        var rest = question.dropFirst(12)
        while let length = rest.popFirst(), length > 0 {
            labels.append(String(decoding: rest.prefix(Int(length)), as: UTF8.self))
            rest = rest.dropFirst(Int(length))
        }
        return labels.joined(separator: ".")
    }

    private static func questionSection(_ question: [UInt8]) -> ArraySlice<UInt8> {
        var end = 12
        while question[end] != 0 { end += Int(question[end]) + 1 }
        return question[12..<end + 5]
    }
}
