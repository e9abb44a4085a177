// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("ExistentialAny"),
    .enableExperimentalFeature("Lifetimes"),
    .treatAllWarnings(as: .error),
]

/// Every package of the graph is pinned, those that only others ask for too: Package.resolved does not travel.
let pins: [Package.Dependency] = [
    .package(url: "https://github.com/hummingbird-project/hummingbird.git", exact: "2.28.1"),
    .package(url: "https://github.com/apple/swift-argument-parser.git", exact: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto.git", exact: "4.5.2"),
    .package(url: "https://github.com/apple/swift-http-types.git", exact: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log.git", exact: "1.16.2"),
    .package(url: "https://github.com/apple/swift-nio.git", exact: "2.101.2"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", exact: "2.13.0"),
    .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift.git", exact: "0.2.0"),
    .package(url: "https://github.com/swift-server/async-http-client.git", exact: "1.37.0"),
    .package(url: "https://github.com/apple/swift-algorithms.git", exact: "1.2.1"),
    .package(url: "https://github.com/apple/swift-asn1.git", exact: "1.7.4"),
    .package(url: "https://github.com/apple/swift-async-algorithms.git", exact: "1.1.4"),
    .package(url: "https://github.com/apple/swift-atomics.git", exact: "1.3.0"),
    .package(url: "https://github.com/apple/swift-certificates.git", exact: "1.21.1"),
    .package(url: "https://github.com/apple/swift-collections.git", exact: "1.6.0"),
    .package(url: "https://github.com/apple/swift-configuration.git", exact: "1.4.0"),
    .package(url: "https://github.com/apple/swift-distributed-tracing.git", exact: "1.7.3"),
    .package(url: "https://github.com/apple/swift-http-structured-headers.git", exact: "1.7.0"),
    .package(url: "https://github.com/apple/swift-metrics.git", exact: "2.13.0"),
    .package(url: "https://github.com/apple/swift-nio-extras.git", exact: "1.35.2"),
    .package(url: "https://github.com/apple/swift-nio-http2.git", exact: "1.46.0"),
    .package(url: "https://github.com/apple/swift-nio-ssl.git", exact: "2.37.6"),
    .package(url: "https://github.com/apple/swift-nio-transport-services.git", exact: "1.28.0"),
    .package(url: "https://github.com/apple/swift-numerics.git", exact: "1.1.1"),
    .package(url: "https://github.com/apple/swift-service-context.git", exact: "1.5.1"),
    .package(url: "https://github.com/apple/swift-system.git", exact: "1.8.1"),
]

func target(_ name: String, _ dependencies: [Target.Dependency] = [], exclude: [String] = []) -> Target {
    .target(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: ["Simulation"] + dependencies, swiftSettings: settings)
}

let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let deque: Target.Dependency = .product(name: "DequeModule", package: "swift-collections")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
    name: "stratos",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "stratos", targets: ["CLI"]),
        .executable(name: "stratos-bench", targets: ["Benchmarks"]),
        .executable(name: "stratos-prove", targets: ["Proofs"]),
        .executable(name: "stratos-devnet", targets: ["DevnetProgram"]),
        .library(name: "StratosClient", targets: ["Client", "ATProto", "Keys"]),
    ],
    dependencies: pins,
    targets: [
        .systemLibrary(name: "CSQLite", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CSecp256k1", pkgConfig: "libsecp256k1", providers: [.apt(["libsecp256k1-dev"])]),
        .systemLibrary(name: "CAllocator"),
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CResolv"),
        .target(name: "CGatheredWAL", dependencies: ["CSQLite"], cSettings: [.treatAllWarnings(as: .error)]),
        .target(name: "CP256", dependencies: ["COpenSSL"], cSettings: [.treatAllWarnings(as: .error)]),
        target("Keys", ["CP256", "CSecp256k1", crypto]),
        target("ATProto", ["Keys", crypto], exclude: ["Lexicon/documents"]),
        target("EventLog", ["ATProto", "Keys", crypto], exclude: ["FORMAT.md"]),
        target("Commands", ["EventLog", "ATProto", "Keys"]),
        target("Projections", ["Commands", "EventLog", "ATProto", "Keys", crypto]),
        target("SQLiteStore", ["CGatheredWAL", "CSQLite", "Projections", "Commands", "EventLog", "ATProto", "Keys", crypto]),
        target("Authorization", ["CCurl", "CResolv", "EventLog", "Projections", "ATProto", "Keys", crypto]),
        target("Engine", ["Authorization", "Projections", "Commands", "EventLog", "ATProto", "Keys", logging, deque]),
        target(
            "Server",
            [
                "Engine", "Authorization", "Commands", "Projections", "EventLog", "ATProto", "Keys", "CAllocator", logging,
                .product(name: "Hummingbird", package: "hummingbird"), .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"), .product(name: "NIOWebSocket", package: "swift-nio"),
                .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
                .product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ]),
        target(
            "Client",
            [
                "Authorization", "Commands", "EventLog", "ATProto", "Keys", crypto, .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"), .product(name: "NIOWebSocket", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ]),
        .executableTarget(
            name: "CLI",
            dependencies: [
                "Client", "Server", "Engine", "Authorization", "SQLiteStore", "Projections", "Commands", "EventLog", "ATProto", "Keys",
                argumentParser, logging, .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "Hummingbird", package: "hummingbird"), .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: settings),
        .target(
            name: "CCountingVFS", dependencies: ["CSQLite"], path: "tools/counting-vfs", cSettings: [.treatAllWarnings(as: .error)]),
        .executableTarget(
            name: "Benchmarks",
            dependencies: [
                "CCountingVFS", "Engine", "Authorization", "SQLiteStore", "Projections", "Commands", "EventLog", "ATProto", "Keys",
                "Simulation",
                "Devnet",
                argumentParser, logging, .product(name: "Histogram", package: "hdrhistogram-swift"),
                .product(name: "Hummingbird", package: "hummingbird"), .product(name: "NIOCore", package: "swift-nio"),
            ],
            path: "tools/benchmarks",
            swiftSettings: settings),
        .executableTarget(
            name: "Proofs",
            dependencies: ["SQLiteStore", "EventLog", "ATProto", "Keys", "Simulation", argumentParser],
            path: "tools/proofs",
            swiftSettings: settings),
        .target(
            name: "CFaultyVFS", dependencies: ["CSQLite"], path: "Tests/CFaultyVFS", cSettings: [.treatAllWarnings(as: .error)]),
        .target(
            name: "Devnet",
            dependencies: [
                "ATProto", "Keys", crypto, logging, .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HTTPTypes", package: "swift-http-types"), .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            path: "tools/devnet",
            swiftSettings: settings),
        .executableTarget(
            name: "DevnetProgram",
            dependencies: [
                "Devnet", "ATProto", "Keys", argumentParser, logging,
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            path: "tools/devnet-program",
            swiftSettings: settings),
        .target(
            name: "Simulation",
            dependencies: [
                "CFaultyVFS", "Devnet", "Engine", "Authorization", "SQLiteStore", "Projections", "Commands", "EventLog", "ATProto", "Keys",
                crypto,
                logging,
            ],
            path: "Tests/Simulation",
            swiftSettings: settings),
        tests("FormatTests", ["ATProto", "Keys", "CP256", crypto]),
        tests(
            "EngineTests",
            [logging, crypto, "Engine", "Authorization", "Projections", "Commands", "SQLiteStore", "EventLog", "ATProto", "Keys"]),
        tests("AuthorizationTests", ["Authorization", "ATProto", "Keys", crypto]),
        tests(
            "DevnetTests",
            [
                "Devnet", "ATProto", "Keys", crypto, .product(name: "HummingbirdTesting", package: "hummingbird"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HTTPTypes", package: "swift-http-types"), .product(name: "NIOCore", package: "swift-nio"),
            ]),
        tests(
            "ClientTests",
            [
                "Client", "Devnet", "Authorization", "EventLog", "ATProto", "Keys", .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"), .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ]),
        tests("StoreTests", ["SQLiteStore", "CSQLite", "Projections", "EventLog", "ATProto", "Keys", crypto]),
        tests(
            "ServerTests",
            [
                "Devnet", logging, .product(name: "HummingbirdTesting", package: "hummingbird"),
                .product(name: "Hummingbird", package: "hummingbird"), .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "HTTPTypes", package: "swift-http-types"), .product(name: "NIOCore", package: "swift-nio"), "CSQLite",
                "Commands", "Projections", "Server", "Engine", "Authorization", "SQLiteStore", "EventLog", "ATProto", "Keys",
            ]),
    ],
    swiftLanguageModes: [.v6]
)
