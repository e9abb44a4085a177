import EventLog

/// How fast the reactors go, and how long they wait.
package struct ReactorPace: Sendable {
    /// Actors that are worked on side by side, in all and on one server.
    package var workersMax = 64
    package var workersPerHostMax = 8
    /// What is done for one actor before others have their turn.
    package var effectsPerTurn = 32
    /// Events that are read at a time.
    package var pageMax = 256
    package var backoffFirst: Duration = .seconds(1)
    package var backoffMax: Duration = .seconds(600)
    /// The longest wait that a server may ask for.
    package var waitMax: Duration = .seconds(86_400)
    /// For how long a server may yet carry out a request that it gave no answer to.
    package var echoAfter: Duration = .seconds(60)
    /// How long nothing must have succeeded before somebody who left is given up.
    package var givesUpAfter: Duration = .seconds(86_400)
    /// Stubs of a backlog that are put at once, and the interval of those after them: servers count what is written in a user's name,
    /// and an import is not to use up what the user has for the day.
    package var backlogBurst = 300
    package var backlogEvery: Duration = .seconds(10)

    package init() {}

    /// For servers on this machine: they answer at once or never, and nobody wants to wait for them.
    package static var nearby: ReactorPace {
        var pace = ReactorPace()
        pace.backoffFirst = .milliseconds(100)
        pace.backoffMax = .seconds(2)
        pace.echoAfter = .seconds(2)
        pace.backlogEvery = .zero
        return pace
    }

    /// How long to wait after so many failures one after the other: anything up to a bound that doubles with each, so that those who
    /// failed together do not come back together; but never less than the server asked for.
    /// - Parameters:
    ///   - attempts: from 1.
    ///   - fraction: by chance, 0..<1.
    package func backoff(attempts: Int, asked: Duration?, fraction: Double) -> Duration {
        precondition(attempts >= 1 && (0..<1).contains(fraction), "a backoff follows a failure")
        let bound = min(backoffMax, backoffFirst * (1 << min(attempts - 1, 20)))
        let wait = bound * fraction
        guard let asked else { return wait }
        return max(wait, min(max(asked, .zero), waitMax))
    }

    /// When the next item of a backlog may go.
    func backlogMayGo(_ time: Timestamp?) -> Timestamp? { time.map { $0 + backlogEvery * -backlogBurst } }

    /// What the pace counts from once one more has gone.
    func backlogTime(_ time: Timestamp?, at now: Timestamp) -> Timestamp { max(time ?? now, now) + backlogEvery }
}

extension Timestamp {
    static func + (time: Timestamp, duration: Duration) -> Timestamp {
        Timestamp(milliseconds: time.milliseconds + duration.milliseconds)
    }
}

extension Duration {
    /// Whole ones, rounded down.
    var milliseconds: Int64 { components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000 }
}
