/// The versions of the projections, as checkpoints and digests name them. A change of what a fold makes of an event raises the
/// number, and every row of an older number is rebuilt.
package enum ProjectionVersion {
    package static let actor = 3
}
