internal import Glibc

/// Starts a thread of our own for calls that block, and lets go of it: it ends when `body` returns. No signal is delivered to it,
/// so those of the process, and the broken pipes of its sockets, are nobody's surprise.
func startThread(_ body: @escaping @Sendable () -> Void) {
    var thread = pthread_t()
    let context = Unmanaged.passRetained(ThreadBody(run: body)).toOpaque()
    let code = pthread_create(&thread, nil, threadMain, context)
    precondition(code == 0, "a thread could not be started: errno \(code)")
    pthread_detach(thread)
}

private final class ThreadBody {
    let run: () -> Void

    init(run: @escaping () -> Void) { self.run = run }
}

private func threadMain(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let context else { return nil }
    let body = Unmanaged<ThreadBody>.fromOpaque(context).takeRetainedValue()
    var signals = sigset_t()
    sigfillset(&signals)
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    body.run()
    return nil
}
