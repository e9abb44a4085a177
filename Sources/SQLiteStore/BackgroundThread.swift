internal import Glibc

/// A thread of our own for calls that block: SQLite and syncs never run on the cooperative pool.
///
/// `@unchecked Sendable`: the only state is the thread's handle, which is written once before anybody else sees it.
final class BackgroundThread: @unchecked Sendable {
    private var thread = pthread_t()

    /// Starts the thread; `body` and all that it captures belong to it from here on.
    init(_ body: sending @escaping () -> Void) {
        let box = Unmanaged.passRetained(Body(run: body))
        let code = pthread_create(&thread, nil, backgroundThreadMain, box.toOpaque())
        precondition(code == 0, "a thread could not be started: errno \(code)")
    }

    /// Waits until the body has returned. Called once.
    func join() { pthread_join(thread, nil) }

    fileprivate final class Body {
        let run: () -> Void
        init(run: @escaping () -> Void) { self.run = run }
    }
}

private func backgroundThreadMain(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let context else { return nil }
    Unmanaged<BackgroundThread.Body>.fromOpaque(context).takeRetainedValue().run()
    return nil
}
