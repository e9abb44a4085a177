import Foundation
import Synchronization

/// A log that was damaged on disk is never served as if it were whole.
///
/// What counts is read after each damage with the real store, in a directory in memory: opening refuses and says why; or `verify`
/// names what is wrong, and no read gave anything that had not been appended; or everything is what it was, byte for byte. A
/// refusal leaves the files as they were found. Where every read gives what had been appended, all of `verify` is run for one damage
/// in 64, and for the others the part that looks at the file itself: the rest of it sees nothing but those same reads.
///
/// Two logs are flipped bit by bit: one that was closed, all of it in `log.sqlite`, and one of a process that was killed, whose
/// last events stand only in the WAL. Signatures are left out of verification there, because they cover nothing that a hash does
/// not: what is signed is the event, and each event's CID is named by the next event, by the head, the mark or its own checksum.
/// The runs of the whole program check them.
///
/// An older copy of all the files together is an older log, and no machine can tell by itself that it was newer once. So a pair of
/// older files passes where the log is then a whole earlier state and its mark is of that state: that is the same thing.
package enum FlipProof {
    package static let proof = Proof(
        name: "flip",
        claim: "a log with any bit of it turned, pages swapped, zeroed, cut or put back is refused, found by verify, or served unchanged"
    ) { request in
        let workbench = try Workbench(small: request.small)
        defer { workbench.remove() }
        let bytesMin = request.small ? 0 : 64 << 10
        let killed = try await LogSample.killed(
            seed: request.seed, directory: try workbench.directory("killed"), bytesMin: bytesMin, walBytesMin: bytesMin)
        let closed = try await LogSample.closed(seed: request.seed, directory: try workbench.directory("closed"), bytesMin: bytesMin)
        let moments = try await LogSample.moments(
            seed: request.seed, directory: try workbench.directory("moments"), rounds: request.small ? 2 : 6)

        var random = SeededGenerator(seed: request.seed)
        var tally = Tally()
        let sample = request.small ? 100 : nil
        for file in LogImage.File.allCases {
            let flips = flips(of: killed, file, sample: sample, using: &random)
            tally.add(await workbench.run(flips, "\(file) bits of a killed log"))
        }
        tally.add(await workbench.run(flips(of: closed, .log, sample: sample, using: &random), "log.sqlite bits of a closed log"))
        for (name, moment) in [("killed", killed), ("closed", closed)] {
            tally.add(await workbench.run(swaps(in: moment, sample: sample, using: &random), "pages swapped, \(name)"))
            tally.add(await workbench.run(zeroes(in: moment), "pages zeroed, \(name)"))
            tally.add(await workbench.run(cuts(of: moment, sample: sample, using: &random), "cuts, \(name)"))
        }
        tally.add(await workbench.run(oldCopies(among: moments, sample: sample, using: &random), "older copies"))
        if let program = Program.built {
            tally.add(
                await workbench.run(
                    programFlips(of: [killed, closed], count: request.small ? 8 : 400, using: &random), "flips through the program",
                    by: program))
        } else if !request.small {
            tally.failures.append("the program was not built beside this one")
        }
        return ProofResult(counts: tally.counts, failures: tally.failures)
    }

    /// Damage that was done to a log, and what is known of it.
    package struct Damage: Sendable {
        /// What is needed to see it again.
        package let name: String
        package let image: LogImage
        package let recorded: RecordedLog
        /// Where the mark is an older one: how many events there were then.
        package var markedEvents: Int?

        package init(name: String, image: LogImage, recorded: RecordedLog, markedEvents: Int? = nil) {
            self.name = name
            self.image = image
            self.recorded = recorded
            self.markedEvents = markedEvents
        }
    }

    /// Damages by number, so that a million of them need no memory.
    package struct Damages: Sendable {
        package let count: Int
        package let make: @Sendable (Int) -> Damage

        package init(count: Int, make: @escaping @Sendable (Int) -> Damage) {
            self.count = count
            self.make = make
        }

        package init(_ damages: [Damage]) { self.init(count: damages.count) { damages[$0] } }
    }

    // MARK: Kinds of damage

    /// - Parameter sample: so many bits at random; nil for every bit.
    package static func flips(
        of moment: LogSample.Moment, _ file: LogImage.File, sample: Int?, using random: inout SeededGenerator
    ) -> Damages {
        let bitCount = moment.image.byteCount(file) * 8
        let bits = sample.map { count in (0..<count).map { _ in Int.random(in: 0..<bitCount, using: &random) } }
        return Damages(count: bits?.count ?? bitCount) { index in
            let bit = bits?[index] ?? index
            var image = moment.image
            image.flip(bit, of: file)
            return Damage(name: "bit \(bit) of \(file)", image: image, recorded: moment.recorded)
        }
    }

    package static func swaps(in moment: LogSample.Moment, sample: Int?, using random: inout SeededGenerator) -> Damages {
        var damages: [Damage] = []
        for file in [LogImage.File.log, .wal] {
            let units = moment.image.units(of: file).filter { $0.count >= LogImage.pageByteCount }
            for first in units.indices {
                for second in units.indices.dropFirst(first + 1) {
                    var image = moment.image
                    let (one, other) = (Array(image[file]![units[first]]), Array(image[file]![units[second]]))
                    guard one != other else { continue }
                    image[file]!.replaceSubrange(units[first], with: other)
                    image[file]!.replaceSubrange(units[second], with: one)
                    damages.append(Damage(name: "pages \(first) and \(second) of \(file) swapped", image: image, recorded: moment.recorded))
                }
            }
        }
        return Damages(sample.map { Array(damages.shuffled(using: &random).prefix($0)) } ?? damages)
    }

    package static func zeroes(in moment: LogSample.Moment) -> Damages {
        var damages: [Damage] = []
        for file in LogImage.File.allCases {
            for (number, unit) in moment.image.units(of: file).enumerated() {
                var image = moment.image
                image[file]!.replaceSubrange(unit, with: [UInt8](repeating: 0, count: unit.count))
                damages.append(Damage(name: "page \(number) of \(file) zeroed", image: image, recorded: moment.recorded))
            }
        }
        return Damages(damages)
    }

    /// Each file cut at the end of each page, one byte before and after it, at odd places between, to nothing, and away.
    package static func cuts(of moment: LogSample.Moment, sample: Int?, using random: inout SeededGenerator) -> Damages {
        var damages: [Damage] = []
        for file in LogImage.File.allCases {
            guard let bytes = moment.image[file] else { continue }
            var places: Set<Int> = [0]
            for unit in moment.image.units(of: file) {
                places.formUnion([unit.lowerBound, unit.lowerBound + 1, unit.upperBound - 1])
                for _ in 0..<8 { places.insert(Int.random(in: unit, using: &random)) }
            }
            for place in places.sorted() {
                var image = moment.image
                image[file] = Array(bytes[..<place])
                damages.append(Damage(name: "\(file) cut at \(place)", image: image, recorded: moment.recorded))
            }
            var image = moment.image
            image[file] = nil
            damages.append(Damage(name: "\(file) removed", image: image, recorded: moment.recorded))
        }
        return Damages(sample.map { Array(damages.shuffled(using: &random).prefix($0)) } ?? damages)
    }

    /// Each one and each two of the files as they were at an earlier moment, the rest as it is at a later one.
    package static func oldCopies(
        among moments: [LogSample.Moment], sample: Int?, using random: inout SeededGenerator
    ) -> Damages {
        let choices: [[LogImage.File]] = [[.log], [.wal], [.mark], [.log, .wal], [.log, .mark], [.wal, .mark]]
        var damages: [Damage] = []
        for (late, now) in moments.enumerated() {
            for (early, then) in moments[..<late].enumerated() {
                for files in choices {
                    var image = now.image
                    for file in files { image[file] = then.image[file] }
                    guard image != now.image else { continue }
                    let name = "\(files.map(\.description).joined(separator: " and ")) of moment \(early) at moment \(late)"
                    let markedEvents = files.contains(.mark) ? then.recorded.events.count : nil
                    damages.append(Damage(name: name, image: image, recorded: now.recorded, markedEvents: markedEvents))
                }
            }
        }
        return Damages(sample.map { Array(damages.shuffled(using: &random).prefix($0)) } ?? damages)
    }

    /// Bits anywhere, as many in each file: the program is slower than the store.
    package static func programFlips(of moments: [LogSample.Moment], count: Int, using random: inout SeededGenerator) -> Damages {
        var damages: [Damage] = []
        for moment in moments {
            let files = LogImage.File.allCases.filter { moment.image.byteCount($0) > 0 }
            for number in 0..<(count / moments.count) {
                damages.append(flips(of: moment, files[number % files.count], sample: 1, using: &random).make(0))
            }
        }
        return Damages(damages)
    }
}
