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
    private var hasPrinted = false
    private var bar: ProgressBar?

    /// - Parameter path: where bytes go; `-` is standard output, nil where none are expected.
    init(json: Bool, path: String?) throws(Problem) {
        self.json = json
        self.path = path == "-" ? nil : path
        guard let file = self.path else { return }
        descriptor = open(file + ".part", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Self.problem("cannot write \(file)", errno) }
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
        } catch let failure as OperatorFailure {
            try printer.report(name: failure.name, message: failure.message, status: failure.exitCode)
        } catch let problem as Problem {
            try printer.report(name: problem.error, message: problem.message, status: problem.status.rawValue)
        } catch {
            try printer.report(name: "Failed", message: "\(error)", status: Problem.Status.inputOutput.rawValue)
        }
    }

    func take(_ output: OperatorOutput) throws {
        switch output {
        case .object(let value):
            clearProgress()
            if json {
                print(String(decoding: DataModelJSON.encode(value), as: UTF8.self))
            } else {
                print((hasPrinted ? "\n" : "") + Self.laidOut(value))
            }
            hasPrinted = true
            fflush(nil)
        case .bytes(let bytes): try write(bytes)
        case .progress(let done, let total): show(done, total)
        }
    }

    /// All was given: the file that was named appears.
    func finish() throws {
        clearProgress()
        guard let path else { return }
        guard fsync(descriptor) == 0, close(descriptor) == 0, rename(path + ".part", path) == 0 else {
            throw Self.problem("cannot write \(path)", errno)
        }
        if !json { Output.note("written to \(path)") }
    }

    func report(name: String, message: String, status: Int32) throws {
        clearProgress()
        if let path {
            close(descriptor)
            unlink(path + ".part")
        }
        let error: ValueMap = ["error": .string(name), "message": .string(message)]
        if !json {
            Output.note("error: \(message)")
        } else if hasPrinted {
            // Standard output holds results already, and nothing else.
            Output.note(String(decoding: DataModelJSON.encode(.map(error)), as: UTF8.self))
        } else {
            Output.printJSON(error)
        }
        throw ExitCode(status)
    }

    private func write(_ bytes: [UInt8]) throws(Problem) {
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + written, bytes.count - written) }
            if count < 0 {
                if errno == EINTR { continue }
                throw Self.problem("cannot write", errno)
            }
            written += count
        }
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

    private static func problem(_ operation: String, _ code: Int32) -> Problem {
        Problem(status: .inputOutput, error: "OutputFailed", message: "\(operation): \(String(cString: strerror(code)))")
    }
}
