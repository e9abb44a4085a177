import ATProto
import ArgumentParser
import Engine

struct UnenrollCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unenroll", abstract: "End a membership; from the answer on, nothing of the account is served.",
        discussion:
            "The records are erased, unless they are to be kept for a return. What was kept can be erased by the same command later.")

    @Argument(help: "The member's DID.") var did: String
    @Flag(help: "Keep the records and their key, unserved.") var keepContent = false
    @OptionGroup var options: DataOptions

    func run() async throws {
        try await options.run(.unenroll(did: try parsed(did, "a DID") { try DID($0) }, keepsContent: keepContent))
    }
}

struct AccountCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "account", abstract: "What is done for one member.", subcommands: [Rekey.self])

    struct Rekey: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Give a member a new commit key, in the place of one that is stolen or cannot be read. A lost one is replaced by itself.")
        @Argument(help: "The member's DID.") var did: String
        @OptionGroup var options: DataOptions

        func run() async throws { try await options.run(.rekey(did: try parsed(did, "a DID") { try DID($0) })) }
    }
}

struct EnrollmentsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "enrollments", abstract: "List the members, one a line.")

    @OptionGroup var options: DataOptions

    func run() async throws { try await options.run(.enrollments) }
}

struct BoundariesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "boundaries", abstract: "See and change what a member may read and write. Names are bare or qualified.",
        subcommands: [List.self, Add.self, Remove.self, Set.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "The boundaries of a member.")
        @Argument(help: "The member's DID.") var did: String
        @OptionGroup var options: DataOptions

        func run() async throws { try await options.run(.boundaries(did: try parsed(did, "a DID") { try DID($0) })) }
    }

    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Grant boundaries; in force with the answer.")
        @OptionGroup var member: Member

        func run() async throws { try await member.change { .add($0) } }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Take boundaries away; in force with the answer.")
        @OptionGroup var member: Member

        func run() async throws { try await member.change { .remove($0) } }
    }

    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Replace all boundaries; none given leaves the member without any.")
        @Argument(help: "The member's DID.") var did: String
        @Argument(help: "The boundaries.") var names: [String] = []
        @OptionGroup var options: DataOptions

        func run() async throws {
            try await options.run(.changeBoundaries(did: try parsed(did, "a DID") { try DID($0) }, .set(names)))
        }
    }

    struct Member: ParsableArguments {
        @Argument(help: "The member's DID.") var did: String
        @Argument(help: "The boundaries, one or more.") var names: [String]
        @OptionGroup var options: DataOptions

        func change(_ change: ([String]) -> BoundaryChange) async throws {
            try await options.run(.changeBoundaries(did: try parsed(did, "a DID") { try DID($0) }, change(names)))
        }
    }
}

struct AuditCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit", abstract: "What administrators looked at.", subcommands: [Reads.self])

    struct Reads: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "The records of a member that administrators read, newest first.")
        @Argument(help: "The member's DID.") var did: String
        @OptionGroup var options: DataOptions

        func run() async throws { try await options.run(.auditReads(did: try parsed(did, "a DID") { try DID($0) })) }
    }
}
