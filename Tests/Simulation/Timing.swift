/// One timed piece of work. Rates are compared by processor time: elapsed time on a shared machine is mostly noise.
package struct Timing: Sendable {
    package var name: String
    package var operations: Int
    package var wallSeconds: Double
    package var processorSeconds: Double

    package init(name: String, operations: Int, wallSeconds: Double, processorSeconds: Double) {
        self.name = name
        self.operations = operations
        self.wallSeconds = wallSeconds
        self.processorSeconds = processorSeconds
    }

    /// Times `body`, which does `operations` of what `name` says. Prepare outside; return something of the result, so that
    /// nothing is optimised away.
    package static func of<Failure: Error>(
        _ name: String, operations: Int, _ body: () throws(Failure) -> some Any
    ) throws(Failure) -> Timing {
        let processor = Clocks.processor()
        let wall = Clocks.wall()
        let result = try body()
        let timing = Timing(
            name: name, operations: operations, wallSeconds: Clocks.wall() - wall,
            processorSeconds: Clocks.processor() - processor)
        withExtendedLifetime(result) {}
        return timing
    }
}
