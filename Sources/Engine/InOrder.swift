/// Makes something of each item, a few at a time, and takes what was made in the order of the items. As many as are worked on may
/// wait for the first of them; no more are begun before it was taken.
/// - Parameter next: the next item; nil at the end.
func inOrder<Item: Sendable, Made: Sendable>(
    atOnce: Int, next: () throws -> Item?, make: @escaping @Sendable (Item) async throws -> Made, take: (Made) async throws -> Void
) async throws {
    try await withThrowingTaskGroup(of: (number: Int, made: Made).self) { group in
        var (begun, taken) = (0, 0)
        var waiting: [Int: Made] = [:]
        while true {
            while begun - taken < atOnce, let item = try next() {
                let number = begun
                group.addTask { (number, try await make(item)) }
                begun += 1
            }
            guard let done = try await group.next() else { return }
            waiting[done.number] = done.made
            while let made = waiting.removeValue(forKey: taken) {
                try await take(made)
                taken += 1
            }
        }
    }
}
