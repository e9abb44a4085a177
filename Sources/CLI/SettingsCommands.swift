import ATProto
import ArgumentParser
import Engine
import Glibc
import Keys

struct KeygenCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keygen", abstract: "Make a new service key, for STRATOS_SIGNING_KEY_HEX. Nothing is kept.")

    @Flag(help: "As one JSON object.") var json = false

    func run() throws {
        let (bytes, key) = Self.fresh()
        try Output.reporting(asJSON: json) {
            if json {
                try Output.printJSON(["hex": .string(Hex.encode(bytes)), "didKey": .string(key.publicKey.didKey)])
            } else {
                try Output.print("hex: \(Hex.encode(bytes))\ndidKey: \(key.publicKey.didKey)")
            }
        }
    }

    /// Not `PrivateKey.generate`: a key gives its bytes to nobody. One in 2^128 random numbers is no key, and another is drawn.
    private static func fresh() -> (bytes: [UInt8], key: PrivateKey) {
        while true {
            let bytes = Surroundings.ofThisMachine.random(32)
            if let key = try? PrivateKey(curve: .k256, rawBytes: bytes) { return (bytes, key) }
        }
    }
}

struct ConfigCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config",
        abstract: "List every setting with its value, where it comes from, and whether it is used. Secrets are masked.")

    @OptionGroup var options: DataOptions

    func run() async throws {
        try await ResultPrinter.reporting(json: options.json) { printer in try printer.take(.object(try options.settings().listing)) }
    }
}

/// The environment of this process.
enum ProcessEnvironment {
    static var all: [String: String] {
        var variables: [String: String] = [:]
        var entry = environ
        while let text = entry.pointee.map({ String(cString: $0) }) {
            if let equals = text.firstIndex(of: "=") { variables[String(text[..<equals])] = String(text[text.index(after: equals)...]) }
            entry += 1
        }
        return variables
    }
}
