@testable import Client
import Simulation
import Testing

@Suite("WebSocket frames put together")
struct MessageAssemblerTests {
    private typealias Frame = MessageAssembler.Frame

    private func assembler(bytes: Int = 100, fragments: Int = 10) -> MessageAssembler {
        MessageAssembler(bytesMax: bytes, fragmentsMax: fragments)
    }

    @Test("a message cut anywhere, with pings and pongs between its pieces, is the message")
    func fragments() throws {
        let seed = TestFiles.seed
        var generator = SeededGenerator(seed: seed)
        var assembler = assembler(bytes: 1000, fragments: 1000)
        for round in 0..<300 {
            let message = (0..<Int.random(in: 0...400, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator) }
            var rest = message[...]
            var isFirst = true
            while true {
                if !isFirst, Bool.random(using: &generator) {
                    let isPing = Bool.random(using: &generator)
                    let outcome = try assembler.take(Frame(opcode: isPing ? 9 : 10, payload: [UInt8(round & 0xFF)]))
                    #expect(outcome == (isPing ? .ping([UInt8(round & 0xFF)]) : .nothing), "seed \(seed)")
                }
                let count = Int.random(in: 0...rest.count, using: &generator)
                let isFinal = count == rest.count
                let outcome = try assembler.take(Frame(opcode: isFirst ? 2 : 0, isFinal: isFinal, payload: Array(rest.prefix(count))))
                rest = rest.dropFirst(count)
                isFirst = false
                if isFinal {
                    #expect(outcome == .message(message), "seed \(seed)")
                    break
                }
                #expect(outcome == .nothing, "seed \(seed)")
            }
        }
    }

    @Test("what a server may not do is named")
    func faults() {
        func fault(_ frames: Frame...) -> WebSocketFault? {
            var assembler = assembler()
            for frame in frames { do throws(WebSocketFault) { _ = try assembler.take(frame) } catch { return error } }
            return nil
        }
        #expect(fault(Frame(opcode: 2, isMasked: true, payload: [])) == .masked)
        #expect(fault(Frame(opcode: 9, isMasked: true, payload: [])) == .masked)
        #expect(fault(Frame(opcode: 2, hasReservedBits: true, payload: [])) == .reservedBits)
        #expect(fault(Frame(opcode: 1, payload: [])) == .text)
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] as [UInt8] {
            #expect(fault(Frame(opcode: opcode, payload: [])) == .unknownOpcode(opcode))
        }
        #expect(fault(Frame(opcode: 0, payload: [])) == .unexpectedContinuation)
        #expect(fault(Frame(opcode: 2, payload: []), Frame(opcode: 0, payload: [])) == .unexpectedContinuation)
        #expect(fault(Frame(opcode: 2, isFinal: false, payload: []), Frame(opcode: 2, payload: [])) == .interleaved)
        #expect(fault(Frame(opcode: 9, isFinal: false, payload: [])) == .invalidControl)
        #expect(fault(Frame(opcode: 8, payload: [3])) == .invalidControl)
        #expect(fault(Frame(opcode: 9, payload: [UInt8](repeating: 0, count: 125))) == nil)
        #expect(fault(Frame(opcode: 9, payload: [UInt8](repeating: 0, count: 126))) == .invalidControl)
    }

    @Test("a message has a size and a number of pieces, whole or not")
    func bounds() throws {
        var whole = assembler()
        #expect(try whole.take(Frame(opcode: 2, payload: [UInt8](repeating: 1, count: 100))) == .message([UInt8](repeating: 1, count: 100)))
        #expect(throws: WebSocketFault.messageTooLarge(bytesMax: 100)) {
            try whole.take(Frame(opcode: 2, payload: [UInt8](repeating: 1, count: 101)))
        }
        var pieces = assembler()
        _ = try pieces.take(Frame(opcode: 2, isFinal: false, payload: [UInt8](repeating: 1, count: 60)))
        #expect(try pieces.take(Frame(opcode: 0, isFinal: false, payload: [UInt8](repeating: 1, count: 40))) == .nothing)
        #expect(throws: WebSocketFault.messageTooLarge(bytesMax: 100)) { try pieces.take(Frame(opcode: 0, isFinal: false, payload: [1])) }
        var empty = assembler()
        _ = try empty.take(Frame(opcode: 2, isFinal: false, payload: []))
        for _ in 0..<9 { _ = try empty.take(Frame(opcode: 0, isFinal: false, payload: [])) }
        #expect(throws: WebSocketFault.tooManyFragments(max: 10)) { try empty.take(Frame(opcode: 0, isFinal: false, payload: [])) }
    }

    @Test("a close gives its code, or none")
    func close() throws {
        var assembler = assembler()
        #expect(try assembler.take(Frame(opcode: 8, payload: [])) == .close(code: nil))
        #expect(try assembler.take(Frame(opcode: 8, payload: [0x03, 0xF0] + Array("FutureCursor".utf8))) == .close(code: 1008))
    }
}

@Suite("The opening handshake")
struct HandshakeTests {
    private let handshake = Handshake(nonce: Array("the sample nonce".utf8))

    private func judge(_ text: String) throws -> Handshake.Answer { try handshake.judge(Array(text.utf8)) }

    private func answer(
        status: String = "HTTP/1.1 101 Switching Protocols", upgrade: String = "Upgrade: websocket",
        connection: String = "Connection: Upgrade",
        accept: String? = nil, more: String = ""
    ) -> String {
        [status, upgrade, connection, "Sec-WebSocket-Accept: \(accept ?? handshake.accept)", more, ""].filter { !$0.isEmpty }
            .joined(separator: "\r\n") + "\r\n\r\n"
    }

    @Test("the published sample: the nonce 'the sample nonce' is answered s3pPLMBiTxaQ9kYGzzhZRbK+xOo= (RFC 6455, section 1.3)")
    func sample() {
        #expect(handshake.accept == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        let request = String(decoding: handshake.request(host: "a.example", target: "/x?y=1", headers: [("A", "b")]), as: UTF8.self)
        #expect(request.hasPrefix("GET /x?y=1 HTTP/1.1\r\nHost: a.example\r\n") && request.hasSuffix("A: b\r\n\r\n"))
        #expect(request.contains("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"))
    }

    @Test("what RFC 6455 allows is accepted, whatever its case and its company")
    func accepted() throws {
        #expect(try judge(answer()) == .accepted)
        #expect(
            try judge(answer(upgrade: "upgrade:  WebSocket ", connection: "CONNECTION: keep-alive, Upgrade", more: "Server: x"))
                == .accepted)
    }

    @Test("anything else is refused, with its status where it has one")
    func refused() throws {
        #expect(try judge(answer(status: "HTTP/1.1 302 Found", more: "Location: /")) == .refused(status: 302))
        #expect(try judge("HTTP/1.1 401 Unauthorized\r\n\r\n") == .refused(status: 401))
        for text in [
            answer(status: "HTTP/1.0 101 X"), answer(status: "HTTP/2 101 X"), answer(status: "HTTP/1.1 1010 X"), "SSH-2.0-x\r\n\r\n",
            "\r\n\r\n",
        ] {
            #expect(throws: HandshakeFault.notHTTP, "\(text)") { try judge(text) }
        }
        for text in [
            answer(upgrade: "Upgrade: h2c"), answer(upgrade: ""), answer(connection: "Connection: close"), answer(accept: "AAAA"),
            answer(more: "Sec-WebSocket-Accept: \(handshake.accept)"),
        ] { #expect(throws: HandshakeFault.notWebSocket, "\(text)") { try judge(text) } }
        for more in ["Sec-WebSocket-Extensions: permessage-deflate", "Sec-WebSocket-Protocol: xrpc.v0.cbor"] {
            #expect(throws: HandshakeFault.notAskedFor) { try judge(answer(more: more)) }
        }
    }
}
