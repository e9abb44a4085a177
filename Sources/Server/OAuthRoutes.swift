import ATProto
import Authorization
import Commands
import Engine
import EventLog
import HTTPTypes
import Hummingbird

/// The routes by which people join, look whether they are members, and leave (wire contract, section 1.2), and what the service says of
/// itself to authorization servers.
///
/// A browser gets pages, everything else JSON. No answer is kept by anybody, none is shown in a frame, and from none does a browser tell
/// the next server where it came from: their addresses hold states and codes.
struct OAuthRoutes: Sendable {
    let joining: Joining
    let engine: Engine
    let publicURL: String
    let authentication: RequestAuthentication
    let now: @Sendable () -> ContinuousClock.Instant

    func add(to router: Router<ConnectionContext>) {
        for path in ["/client-metadata.json", "/.well-known/oauth-client-metadata.json"] {
            router.get(RouterPath(path)) { _, _ in Response.json(joining.client.identity.metadata) }
        }
        router.get("/oauth/authorize") { request, context in
            await answer(request, failure: .authorization) { try await authorize(request, context) }
        }
        router.get("/oauth/callback") { request, _ in await answer(request, failure: .callback) { try await callback(request) } }
        router.get("/oauth/status") { request, context in
            await answer(request, failure: .status) { try await status(request, context) }
        }
        router.post("/oauth/revoke") { request, context in
            await answer(request, failure: .revocation) { try await revoke(request, context) }
        }
    }

    // MARK: Joining

    private func authorize(_ request: Request, _ context: ConnectionContext) async throws -> Response {
        try requireGET(request)
        let parameters = try QueryString.pairs(in: request.uri.string)
        let handles = parameters.filter { $0.0 == "handle" && !$0.1.isEmpty }
        guard handles.count == 1 else { throw XRPCError.invalidRequest("Handle parameter required") }
        let returnTo = try returnTarget(parameters.filter { $0.0 == "redirect_uri" }.map(\.1))
        if let detour = detour(of: request) { return Response(status: .found, headers: [.location: detour]) }
        // What names nobody costs nothing, and counts as no flow.
        let account: ATIdentifier
        do throws(OAuthRefusal) { account = try OAuthClient.identifier(typed: handles[0].1) } catch {
            throw XRPCError(error, begins: true)
        }
        let address = ClientAddress.find(peer: context.channel.remoteAddress, headers: request.headers)
        if let wait = joining.rate.begin(address, now: now()) {
            throw XRPCError(
                .tooManyRequests, "RateLimitExceeded", "Too many people are joining; try again in a minute",
                headers: [.retryAfter: String(max(1, wait.components.seconds + 1))])
        }
        defer { joining.rate.end(address) }
        let beginning = try await joining.client.begin(account, returnTo: returnTo)
        let cookie = beginning.cookie
        return Response(
            status: .found,
            headers: [
                .location: beginning.location,
                .setCookie: Self.setCookie(cookie.name, cookie.value, lifetime: cookie.lifetime, isSecure: cookie.isSecure),
            ])
    }

    /// A browser that began the flow under another name of this service than it comes back to would bring no cookie: it begins there.
    private func detour(of request: Request) -> String? {
        guard let callback = joining.client.identity.callbackOrigin, let own = WebOrigin(ofURL: publicURL), callback != own,
            let authority = request.head.authority, let asked = WebOrigin("\(own.isSecure ? "https" : "http")://\(authority)"), asked == own
        else { return nil }
        return callback.description + publicURL.dropFirst(own.description.count) + request.uri.string
    }

    /// Where the browser may be sent in the end: a place of this service. Any other would make it a way to send people anywhere.
    private func returnTarget(_ given: [String]) throws(XRPCError) -> String? {
        guard let target = given.first else { return nil }
        guard given.count == 1, let origin = WebOrigin(ofURL: target), target.utf8.count <= 2048 else {
            throw .invalidRequest("Invalid redirect_uri")
        }
        let own = [WebOrigin(ofURL: publicURL), joining.client.identity.callbackOrigin]
        guard origin.isSecure || own[0]?.isSecure == false else { throw .invalidRequest("redirect_uri must use https") }
        guard own.contains(origin) else { throw .invalidRequest("redirect_uri must be a place of this service") }
        return target
    }

    private func callback(_ request: Request) async throws -> Response {
        try requireGET(request)
        let parameters = try QueryString.pairs(in: request.uri.string)
        let name = joining.client.cookieName(ofCallback: parameters)
        let ending = try await joining.client.end(parameters, cookie: name.flatMap { Self.cookie($0, of: request) })
        let isNew = try await enroll(ending)
        var response: Response
        if let target = ending.returnTo {
            response = Response(status: .found, headers: [.location: Self.enrolled(target)])
        } else if request.wantsPage {
            response = OAuthPages.joined(ending, isNew: isNew, service: publicURL)
        } else {
            response = .json([
                "success": true, "did": .string(ending.did.description), "enrolled": .bool(isNew),
                "message": isNew ? "Successfully enrolled in Stratos" : "Already enrolled in Stratos",
            ])
        }
        if let name {
            response.headers[.setCookie] = Self.setCookie(name, "", lifetime: 0, isSecure: name.hasPrefix("__Host-"))
        }
        return response
    }

    /// The session is kept first, then the append makes a member, then whoever keeps the records elsewhere is told. Where the process
    /// ends in between, the session is there without a membership or the membership without its records, and the next flow, which finds
    /// what is there, brings the rest.
    /// - Returns: whether the account was no member before.
    private func enroll(_ ending: OAuthClient.Ending) async throws -> Bool {
        // Whoever is a member was let in before.
        let isMember = try await engine.isEnrolled(ending.did)
        guard isMember || joining.admits(ending.did, ending.pds) else {
            await joining.client.discard(ending)
            engine.logger.info("not let in", metadata: ["actor": .string(ending.did.description)])
            throw XRPCError(.forbidden, "EnrollmentDenied", "Your account is not eligible for this Stratos service")
        }
        do {
            try await joining.sessions.keep(ending)
        } catch {
            await joining.client.discard(ending)
            throw error
        }
        let isNew = isMember ? false : try await becomesMember(ending)
        joining.onSession(ending.did)
        return isNew
    }

    /// - Returns: false where another flow of the same account was faster.
    private func becomesMember(_ ending: OAuthClient.Ending) async throws -> Bool {
        do {
            _ = try await engine.enroll(
                ending.did, boundaries: [], pds: ending.pds, by: Agent(did: ending.did, credential: .oauth))
        } catch Refusal.alreadyEnrolled {
            return false
        } catch let refusal as Refusal where refusal != .overloaded {
            // Nobody's session is kept who cannot become a member at all.
            try await joining.sessions.revoke(ending.did)
            throw refusal
        }
        engine.logger.info("joined", metadata: ["actor": .string(ending.did.description)])
        return true
    }

    private static func enrolled(_ target: String) -> String {
        target + (target.contains("?") ? "&" : "?") + "stratos_enrolled=true"
    }

    // MARK: Members

    private func status(_ request: Request, _ context: ConnectionContext) async throws -> Response {
        let (did, _) = try await member(request, context, method: "zone.stratos.enrollment.status", isProcedure: false)
        guard let enrollment = try await engine.enrollment(of: did),
            let membership = engine.membership(of: enrollment, to: .user(did))?.content
        else { return .json(["did": .string(did.description), "enrolled": false]) }
        return .json([
            "did": .string(did.description), "enrolled": true, "enrolledAt": .string(membership.enrolledAt.description),
            "boundaries": .array(membership.boundaries.map { ["value": .string($0)] }),
        ])
    }

    private func revoke(_ request: Request, _ context: ConnectionContext) async throws -> Response {
        let did: DID
        let proven: Proven
        do { (did, proven) = try await member(request, context, method: "zone.stratos.enrollment.unenroll", isProcedure: true) } catch {
            guard (error as? XRPCError)?.name == "NotEnrolled" else { throw error }
            throw Self.notEnrolled
        }
        do {
            try await engine.leave(
                did, content: .kept, reason: "the member revoked the enrollment", by: Agent(did: did, credential: proven.credential),
                use: proven.use)
        } catch Refusal.notEnrolled {
            throw Self.notEnrolled
        }
        return .json([
            "did": .string(did.description), "revoked": true, "message": "Successfully unenrolled from Stratos",
        ])
    }

    private static let notEnrolled = XRPCError(.notFound, "NotFound", "User is not enrolled")

    /// The member who asks, by an access token or by a service token for `method`.
    private func member(
        _ request: Request, _ context: ConnectionContext, method: String, isProcedure: Bool
    ) async throws -> (DID, Proven) {
        let unproven = XRPCError(
            .unauthorized, "Unauthorized", "Authorization required", headers: [.wwwAuthenticate: "DPoP realm=\"stratos\""])
        do {
            guard
                let proven = try await authentication.caller(of: request, on: context.channel, method: method, isProcedure: isProcedure),
                case .user(let did) = proven.caller
            else { throw unproven }
            return (did, proven)
        } catch let error as XRPCError where error.status == .unauthorized {
            // The name that these routes have for it.
            throw XRPCError(error.status, "Unauthorized", error.message, headers: error.headers)
        }
    }

    // MARK: Requests and answers

    /// HEAD would begin or end a flow, and tell nobody.
    private func requireGET(_ request: Request) throws(XRPCError) {
        guard request.method == .get else {
            throw XRPCError(.methodNotAllowed, "InvalidRequest", "This is for GET alone", headers: [.allow: "GET"])
        }
    }

    private static func setCookie(_ name: String, _ value: String, lifetime: Int64, isSecure: Bool) -> String {
        "\(name)=\(value); Path=/; Max-Age=\(lifetime); HttpOnly; SameSite=Lax" + (isSecure ? "; Secure" : "")
    }

    /// The one cookie of that name; two are none.
    private static func cookie(_ name: String, of request: Request) -> String? {
        let pairs = request.headers[values: .cookie].joined(separator: ";").split(separator: ";").map { pair in pair.drop { $0 == " " } }
        let found = pairs.filter { $0.hasPrefix(name + "=") }
        return found.count == 1 ? String(found[0].dropFirst(name.utf8.count + 1)) : nil
    }

    /// What a route answers where nobody foresaw what happened.
    private enum Failure {
        case authorization, callback, status, revocation

        var error: XRPCError {
            switch self {
            case .authorization: XRPCError(.internalServerError, "AuthorizationError", "Failed to start authorization flow")
            case .callback: XRPCError(.internalServerError, "CallbackError", "Failed to complete authorization")
            case .status: XRPCError(.internalServerError, "StatusError", "Failed to look up the enrollment")
            case .revocation: XRPCError(.internalServerError, "RevokeError", "Failed to revoke the enrollment")
            }
        }
    }

    private func answer(_ request: Request, failure: Failure, _ body: () async throws -> Response) async -> Response {
        var response: Response
        do {
            guard engine.gate.isOpen else { throw XRPCError.unavailable("The service is rebuilding; try again shortly") }
            response = try await body()
        } catch {
            let refusal = refusal(error, failure: failure)
            response = request.wantsPage ? OAuthPages.refused(refusal, service: publicURL) : refusal.response
            for field in refusal.headers { response.headers[field.name] = field.value }
        }
        response.headers[.cacheControl] = "no-store"
        response.headers[.vary] = "Accept"
        response.headers[.xContentTypeOptions] = "nosniff"
        response.headers[.referrerPolicy] = "no-referrer"
        response.headers[.contentSecurityPolicy] = OAuthPages.policy
        return response
    }

    /// Logged here, once, by its name.
    private func refusal(_ error: any Error, failure: Failure) -> XRPCError {
        if let refusal = error as? OAuthRefusal {
            var metadata: [String: String] = ["reason": refusal.name]
            metadata["detail"] = refusal.detail
            engine.logger.log(
                level: refusal.isForNothing ? .debug : .info, "a flow was refused", metadata: metadata.mapValues { .string($0) })
            return XRPCError(refusal, begins: failure == .authorization)
        }
        if let refusal = error as? XRPCError ?? XRPCError(wording: error) { return refusal }
        engine.logger.error("request failed", metadata: ["route": .string("\(failure)"), "error": "\(error)"])
        return failure.error
    }
}

extension OAuthRefusal {
    /// Whether anybody can cause it as often as they like, without a flow that was begun.
    fileprivate var isForNothing: Bool {
        switch self {
        case .unknownState, .malformedCallback, .otherBrowser: true
        default: false
        }
    }
}

extension XRPCError {
    /// A flow that did not begin is answered with 400 where what was asked for is the reason; all else has the status that the wire has
    /// for flows that fail, and a name of its own.
    init(_ refusal: OAuthRefusal, begins: Bool) {
        let status: HTTPResponse.Status
        switch refusal {
        case .tooManyFlows:
            self.init(
                .tooManyRequests, "RateLimitExceeded", "Too many people are joining; try again in a minute", headers: [.retryAfter: "60"])
            return
        case .unknownAccount, .handleMismatch, .noPDS, .unfitServer, .noPKCE, .unreachable:
            status = begins ? .badRequest : .internalServerError
        default: status = .internalServerError
        }
        self.init(status, refusal.name, Self.message(of: refusal))
    }

    /// For people: what happened, and what they can do.
    private static func message(of refusal: OAuthRefusal) -> String {
        switch refusal {
        case .unknownAccount: "There is no account of this name"
        case .handleMismatch: "The account behind this handle does not say that the handle is its own"
        case .noPDS: "The account names no server that keeps it"
        case .unfitServer, .noPKCE: "The account's server does not offer the sign-in that this service needs"
        case .pushRefused, .codeRefused, .malformedTokens, .notBound: "The account's server refused to sign in"
        case .unreachable: "The account's server could not be reached; try again later"
        case .unknownState, .expiredState: "This sign-in is over; begin again"
        case .otherBrowser: "This sign-in was begun in another browser; begin again in this one"
        case .malformedCallback, .missingIssuer, .otherIssuer, .missingCode: "The answer is not the one that this service asked for"
        case .notAuthorized: "The sign-in was not allowed"
        case .serverChanged: "The account's server has changed meanwhile; begin again"
        case .otherSubject: "Another account signed in than the one that was asked for"
        case .scopeTooSmall: "The account did not allow what this service needs: to keep two kinds of records"
        case .tooManyFlows: "Too many people are joining"
        }
    }
}

extension HTTPField.Name {
    static let referrerPolicy = HTTPField.Name("Referrer-Policy")!
}

extension Request {
    /// Whether a person's browser asks: one that prefers a page to JSON.
    var wantsPage: Bool {
        let ranges = headers[values: .accept].joined(separator: ",").split(separator: ",").map { range in
            range.split(separator: ";").map { $0.filter { $0 != " " }.lowercased() }
        }
        func weight(_ type: String) -> Double? {
            guard let range = ranges.first(where: { $0.first == type }) else { return nil }
            return range.dropFirst().first { $0.hasPrefix("q=") }.map { Double($0.dropFirst(2)) ?? 0 } ?? 1
        }
        guard let page = weight("text/html"), page > 0 else { return false }
        return page >= weight("application/json") ?? 0
    }
}
