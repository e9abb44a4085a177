import ATProto
import Authorization

extension StratosClient {
    static let jsonBytesMax = 1 << 20

    /// A GET whose answer is an object of the data model.
    /// - Throws: `refused` for any status but 200: a redirect too.
    func object(_ url: String, via outbound: Outbound) async throws(ClientError) -> Value {
        let response = try await answer(url, accept: "application/json", bytesMax: Self.jsonBytesMax, credential: nil, via: outbound)
        do throws(DataModelJSONError) { return try DataModelJSON.decode(response.body) } catch { throw .malformed("\(error)") }
    }

    func answer(
        _ url: String, accept: String, bytesMax: Int, credential: Credential?, via outbound: Outbound
    ) async throws(ClientError) -> OutboundResponse {
        let response: OutboundResponse
        do throws(OutboundError) {
            response = try await outbound.send(
                OutboundRequest(
                    url: url, accept: accept, headers: credential?.authorization.map { ["Authorization": $0] } ?? [:], bytesMax: bytesMax,
                    timeout: configuration.requestTimeout))
        } catch {
            throw ClientError(error)
        }
        guard response.status == 200 else { throw .refused(status: response.status, name: Self.errorName(response.body)) }
        let essence = (response.contentType ?? "").prefix { $0 != ";" }.trimming(" ").lowercased()
        guard essence == accept else { throw .malformed("not sent as \(accept)") }
        return response
    }

    /// The `error` of an XRPC error's body, where it is a plain name.
    static func errorName(_ body: [UInt8]) -> String? {
        guard body.count <= 4096, let name = (try? DataModelJSON.decodePlain(body))?["error"]?.stringValue,
            (1...64).contains(name.utf8.count), name.utf8.allSatisfy(isLetterOrDigit)
        else { return nil }
        return name
    }

    private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
        UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte || UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte
            || UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte
    }
}

extension StringProtocol {
    fileprivate func trimming(_ character: Character) -> String {
        String(drop { $0 == character }.reversed().drop { $0 == character }.reversed())
    }
}
