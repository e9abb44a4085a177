import Authorization
import SQLiteStore

/// `service.sqlite` of a data directory, and what of it the OAuth client uses.
enum ServiceFile {
    static func open(in directory: String) throws(Problem) -> ServiceDatabase {
        do throws(SQLiteError) { return try ServiceDatabase(directory: directory) } catch {
            throw Problem(status: .inputOutput, error: "ServiceFileRefused", message: "\(error)")
        }
    }
}

extension OAuthStorage {
    /// - Parameter now: microseconds.
    init(_ database: ServiceDatabase, now: @escaping @Sendable () -> Int64) {
        self.init(
            keepFlow: { try await database.keepFlow($0, $1, expires: $2, now: now() / 1_000_000) },
            flow: { try await database.flow($0) }, takeFlow: { try await database.takeFlow($0) },
            session: { account in
                switch try await database.session(of: account) {
                case nil: nil
                case .sealed(let bytes): .sealed(bytes)
                case .ended(let reason, let at): .ended(reason: reason, at: at)
                }
            },
            keepSession: { account, session in
                switch session {
                case .sealed(let bytes): try await database.keep(.sealed(bytes), of: account)
                case .ended(let reason, let at): try await database.keep(.ended(reason: reason, at: at), of: account)
                }
            }, removeSession: { try await database.removeSession(of: $0) })
    }
}
