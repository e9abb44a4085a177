import Testing

@testable import Authorization

@Suite("The administrators' password")
struct AdministratorsTests {
    private enum Outcome { case isIn, wrong, throttled }

    private let administrators = Administrators(password: "right")

    private func come(_ password: String, from address: String?, now: Int64 = 1000) -> Outcome {
        switch administrators.check(bearer: Substring(password), from: address, now: now) {
        case .administrator: .isIn
        case .wrong: .wrong
        case .throttled: .throttled
        }
    }

    @Test("who guesses keeps strangers out for a while, and nobody at an address that the right password came from")
    func strangers() {
        #expect(come("right", from: "home") == .isIn)
        for number in 0..<Administrators.failuresMax {
            #expect(come("guess", from: number % 2 == 0 ? "elsewhere" : nil) == .wrong)
        }
        for address in ["elsewhere", "somewhere", nil] { #expect(come("right", from: address) == .throttled) }
        #expect(come("right", from: "home") == .isIn)
        #expect(come("right", from: "elsewhere", now: 1005) == .throttled)
        #expect(come("right", from: "elsewhere", now: 1006) == .isIn, "one more password is looked at in six seconds")
        #expect(come("guess", from: nil, now: 1006) == .wrong)
        #expect(come("right", from: nil, now: 1006) == .throttled)
        #expect(come("right", from: "elsewhere", now: 1006) == .isIn, "an address that is known now")
    }

    @Test("an address that is known is throttled by its own failures, and they are nobody else's")
    func known() {
        for address in ["home", "office"] { #expect(come("right", from: address) == .isIn) }
        for _ in 0..<Administrators.failuresMax { #expect(come("guess", from: "home") == .wrong) }
        #expect(come("right", from: "home") == .throttled)
        for address in ["office", "somewhere", nil] { #expect(come("right", from: address) == .isIn) }
        #expect(come("right", from: "home", now: 1006) == .isIn)
        for _ in 0..<Administrators.failuresMax { #expect(come("guess", from: nil, now: 1006) == .wrong) }
        #expect(come("right", from: "home", now: 1006) == .isIn)
    }
}
