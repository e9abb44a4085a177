import CAllocator
import Glibc

/// What the C library's allocator keeps for itself, and does not give back to the machine.
package enum Allocator {
    /// Lets it have an arena for each processor. By itself it has up to eight times as many, one for each thread, and keeps in each what that
    /// thread's largest request took. Called before there are other threads.
    package static func limitArenas() { mallopt(M_ARENA_MAX, Int32(clamping: max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))) }

    /// Gives back what is free.
    static func trim() { malloc_trim(0) }
}
