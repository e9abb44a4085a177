import ATProto
import ArgumentParser
import Engine
import Glibc

/// Puts a command's results where they belong: objects on standard output, one JSON line each or laid out for people; bytes into the
/// file that was named, which appears only when it is whole; progress on a terminal.
final class ResultPrinter: @unchecked Sendable {
    // `@unchecked Sendable`: one command at a time gives its results, one after the other.
    private let json: Bool
    private let path: String?
    private var descriptor: Int32 = STDOUT_FILENO
    private var bar: ProgressBar?
    /// Why a result could not be put there. Who gave it says it again, in words of its own.
    private var loss: (any Error)?

    /// - Parameter path: where bytes go; `-` is standard output, nil where none are expected.
    init(json: Bool, path: String?) throws(Problem) {
        self.json = json
        self.path = path == "-" ? nil : path
        guard let file = self.path else { return }
        descriptor = open(file + ".part", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Output.lost("cannot write \(file)", errno) }
    }

    /// Runs a command that prints, and ends the program with the status of what went wrong, said once and in the form that was asked for.
    static func reporting(json: Bool, path: String? = nil, _ command: (ResultPrinter) async throws -> Void) async throws {
        let printer: ResultPrinter
        do { printer = try ResultPrinter(json: json, path: path) } catch {
            printer = try ResultPrinter(json: json, path: nil)
            return try printer.report(name: error.error, message: error.message, status: error.status.rawValue)
        }
        do {
            try await command(printer)
            try printer.finish()
        } catch {
            switch printer.loss ?? error {
            case let failure as OperatorFailure:
                try printer.report(name: failure.name, message: failure.message, status: failure.exitCode)
            case let problem as Problem:
                try printer.report(name: problem.error, message: problem.message, status: problem.status.rawValue)
            case let other: try printer.report(name: "Failed", message: "\(other)", status: Problem.Status.inputOutput.rawValue)
            }
        }
    }

    func take(_ output: OperatorOutput) throws {
        do { try put(output) } catch {
            loss = error
            throw error
        }
    }

    private func put(_ output: OperatorOutput) throws(Problem) {
        switch output {
        case .object(let value):
            clearProgress()
            if json {
                try Output.printJSON(value)
            } else {
                try Output.print((Output.hasPrinted ? "\n" : "") + Self.laidOut(value))
            }
        case .bytes(let bytes):
            let code = Output.write(bytes, to: descriptor)
            guard code == 0 else { throw Output.lost("cannot write", code) }
        case .progress(let done, let total): show(done, total)
        }
    }

    /// All was given: the file that was named appears.
    func finish() throws {
        clearProgress()
        guard let path else { return }
        guard fsync(descriptor) == 0, close(descriptor) == 0, rename(path + ".part", path) == 0 else {
            throw Output.lost("cannot write \(path)", errno)
        }
        if !json { Output.note("written to \(path)") }
    }

    func report(name: String, message: String, status: Int32) throws {
        clearProgress()
        if let path {
            close(descriptor)
            unlink(path + ".part")
        }
        Output.tell(name, message, asJSON: json)
        throw ExitCode(status)
    }

    private func show(_ done: Int, _ total: Int?) {
        guard let total else { return }
        if bar == nil { bar = ProgressBar("working", total: total, json: json) }
        bar?.advance(to: done, "")
    }

    private func clearProgress() { bar = nil }

    /// A value for people: a field a line, what stands inside further in.
    private static func laidOut(_ value: Value, indent: String = "") -> String {
        switch value {
        case .map(let fields):
            fields.map { key, field in
                switch field {
                case .map(let inner) where !inner.isEmpty: "\(indent)\(key):\n\(laidOut(field, indent: indent + "  "))"
                case .array(let items) where !items.isEmpty: "\(indent)\(key):\n\(laidOut(field, indent: indent + "  "))"
                default: "\(indent)\(key): \(plain(field))"
                }
            }.joined(separator: "\n")
        case .array(let items):
            items.map { item in
                if case .map = item { "\(indent)-\n\(laidOut(item, indent: indent + "  "))" } else { "\(indent)- \(plain(item))" }
            }.joined(separator: "\n")
        default: indent + plain(value)
        }
    }

    private static func plain(_ value: Value) -> String {
        switch value {
        case .string(let text): text
        case .null: "–"
        case .map, .array: "none"
        default: String(decoding: DataModelJSON.encode(value), as: UTF8.self)
        }
    }
}
