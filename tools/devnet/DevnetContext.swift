import Hummingbird
import NIOCore

/// A request's context with the connection that it came over, so that a fault can close it.
struct DevnetContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    let channel: any Channel

    init(source: ApplicationRequestContextSource) {
        coreContext = CoreRequestContextStorage(source: source)
        channel = source.channel
    }
}
