import Histogram
import Simulation

/// How long single operations took, to three digits, from a microsecond to a minute.
struct Latencies: Sendable {
    private var histogram = Histogram<UInt64>(highestTrackableValue: 60_000_000, numberOfSignificantValueDigits: .three)

    var count: UInt64 { histogram.totalCount }

    mutating func record(seconds: Double) {
        // What takes longer than a minute counts as a minute: it is past every target.
        _ = histogram.record(UInt64(min(max(seconds, 0) * 1e6, 59_999_999)))
    }

    mutating func add(_ other: Latencies) { histogram.add(other.histogram) }

    /// - Parameter percentile: 0…100.
    func milliseconds(_ percentile: Double) -> Double { Double(histogram.valueAtPercentile(percentile)) / 1000 }

    /// The four percentiles; `p99` is held to `target`.
    func figures(_ name: String, p99 target: Figure.Target? = nil) -> [Figure] {
        [
            Figure("\(name), p50", milliseconds(50), .milliseconds), Figure("\(name), p90", milliseconds(90), .milliseconds),
            Figure("\(name), p99", milliseconds(99), .milliseconds, target), Figure("\(name), p99.9", milliseconds(99.9), .milliseconds),
        ]
    }
}
