import Client
import ServiceLifecycle

/// Takes events from a subscription and gives lines, until the stream ends, the reader goes away or a signal says to stop; then saves
/// how far the lines were taken.
struct Follower: Service {
    let client: StratosClient
    let request: Subscription.Request
    let output: FollowOutput
    let verifier: FollowVerifier?

    private static let saveInterval: Duration = .seconds(1)

    func run() async throws {
        let result = await cancelWhenGracefulShutdown { await follow() }
        try await output.finish()
        if case .failure(let error) = result, !(error is FollowOutput.ReaderGone) { throw Self.problem(error) }
        if let failures = await verifier?.failures, failures > 0 {
            throw Problem(status: .refused, error: "VerificationFailed", message: "\(failures) lines did not verify")
        }
    }

    private func follow() async -> Result<Void, any Error> {
        await withTaskGroup(of: Result<Void, any Error>.self) { group in
            group.addTask { await Self.caught { try await read() } }
            group.addTask { await Self.caught { try await save() } }
            let first = await group.next() ?? .success(())
            group.cancelAll()
            return first
        }
    }

    private func read() async throws {
        let surroundings = Subscription.Surroundings(interrupted: { end, wait in
            Output.note("\(end); again in \(Self.seconds(wait)) s")
        })
        var iterator = client.subscribe(request, surroundings: surroundings).makeAsyncIterator()
        while let events = try await iterator.nextBatch() {
            var lines: [FollowLine] = []
            for event in events {
                if case .notice(let notice) = event.message {
                    Output.note("\(notice.name)\(notice.message.map { ": \($0)" } ?? "")")
                }
                lines += await FollowLine.lines(of: event, verifier: verifier)
            }
            try await output.write(lines)
        }
    }

    private func save() async throws {
        while true {
            do { try await Task.sleep(for: Self.saveInterval) } catch { return }
            try output.save()
        }
    }

    private static func caught(_ body: () async throws -> Void) async -> Result<Void, any Error> {
        do { return .success(try await body()) } catch is CancellationError { return .success(()) } catch { return .failure(error) }
    }

    private static func seconds(_ duration: Duration) -> String {
        let milliseconds = duration.components.seconds * 1000 + duration.components.attoseconds / 1_000_000_000_000_000
        return "\(milliseconds / 1000).\(milliseconds % 1000 / 100)"
    }

    private static func problem(_ error: any Error) -> any Error {
        guard let error = error as? StreamError else { return error }
        switch error {
        case .refused(let name, _): return Problem(status: .refused, error: name, message: error.description)
        case .malformed, .commitTooLarge: return Problem(status: .refused, error: "InvalidStream", message: error.description)
        case .unusable(.refusedUpgrade): return Problem(status: .refused, error: "Refused", message: error.description)
        case .unusable, .gaveUp: return Problem(status: .inputOutput, error: "ServiceUnusable", message: error.description)
        }
    }
}
