@testable import Client
import Simulation
import Testing

@Suite("Streams over TLS")
struct TLSTests {
    private func events(port: Int, authorities: String?) async throws -> [StreamEvent] {
        let address = try #require(ServiceAddress("https://localhost:\(port)"))
        let client = StratosClient(ClientConfiguration(certificateAuthorities: authorities))
        var events: [StreamEvent] = []
        for try await event in client.subscribe(.init(service: address, backoff: Backoff(failuresMax: 0))) {
            events.append(event)
            break
        }
        return events
    }

    @Test("a certificate of somebody who is trusted, for the name that was asked for, carries the stream")
    func trusted() async throws {
        guard let server = try await TLSStreamServer.start(name: "localhost", message: StreamSample.single(1)) else { return }
        #expect(try await events(port: server.port, authorities: server.certificate).map(\.told) == [["\(StreamSample.post)/k1"]])
    }

    @Test("a certificate of a stranger, or for another name, ends it at once")
    func untrusted() async throws {
        guard let server = try await TLSStreamServer.start(name: "localhost", message: StreamSample.single(1)),
            let other = try await TLSStreamServer.start(name: "other.example.com", message: StreamSample.single(1))
        else { return }
        await #expect(throws: StreamError.unusable(.untrusted)) { try await events(port: server.port, authorities: nil) }
        await #expect(throws: StreamError.unusable(.untrusted)) { try await events(port: other.port, authorities: other.certificate) }
    }

    @Test("a server that speaks no TLS is one that cannot be reached")
    func plain() async throws {
        let server = try RawServer { $0.send("HTTP/1.1 400 Bad Request\r\n\r\n") }
        await #expect(throws: StreamError.gaveUp(.unreachable)) { try await events(port: Int(server.port), authorities: nil) }
    }
}
