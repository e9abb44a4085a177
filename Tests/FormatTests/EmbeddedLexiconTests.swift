import ATProto
import Foundation
import Simulation
import Testing

@Suite struct EmbeddedLexiconTests {
    private static let folder = "Sources/ATProto/Lexicon/documents"

    @Test("the program carries the documents of the tree byte for byte, and each is named for its identifier")
    func embeddedEqualsFiles() throws {
        let folder = TestFiles.root.appending(path: Self.folder)
        let files = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".json") }.sorted()
        #expect(EmbeddedLexicons.documents.map { $0.id + ".json" } == files)
        for document in EmbeddedLexicons.documents {
            let bytes = [UInt8](try Data(contentsOf: folder.appending(path: document.id + ".json")))
            #expect(bytes == [UInt8](document.text.utf8), "\(document.id): run tools/make-lexicons")
            #expect(try DataModelJSON.decode(bytes)["id"]?.stringValue == document.id)
        }
        #expect(Lexicons.embedded.ids.map(\.description) == EmbeddedLexicons.documents.map(\.id).sorted())
    }

    /// Where our documents differ on purpose, descriptions apart: the place, and the reason.
    private static let intended = [
        "zone.stratos.sync.subscribeRecords/defs/enrollment/properties/seq": "a stream of enrollments can be resumed",
        "zone.stratos.sync.subscribeRecords/defs/enrollment/properties/action/knownValues": "update: boundaries changed while enrolled",
        "zone.stratos.defs/defs/source/properties/service": "placeholders hold a DID with a fragment, which the format did refuses",
        "zone.stratos.enrollment.status/defs/main/output/schema/properties/active": "answered by the reference (wire 1.5)",
        "zone.stratos.enrollment.status/defs/main/output/schema/properties/signingKey": "answered by the reference (wire 1.5)",
        "zone.stratos.enrollment.status/defs/main/output/schema/properties/enrollmentRkey": "answered by the reference (wire 1.5)",
        "zone.stratos.enrollment.status/defs/main/output/schema/properties/attestation": "answered by the reference (wire 1.5)",
        "com.atproto.repo.describeRepo/defs/main/output/schema/properties/handle/format":
            "the DID stands in where no handle is known (wire 1.3)",
        "app.bsky.embed.images/defs/view": "made by AppViews, never in a record",
        "app.bsky.embed.images/defs/viewImage": "made by AppViews, never in a record",
        "app.bsky.embed.video/defs/view": "made by AppViews, never in a record",
        "app.bsky.embed.external/defs/view": "made by AppViews, never in a record",
        "app.bsky.embed.external/defs/viewExternal": "made by AppViews, never in a record",
        "app.bsky.embed.external/defs/viewExternalSource": "made by AppViews, never in a record",
        "app.bsky.embed.external/defs/viewExternalSourceTheme": "made by AppViews, never in a record",
        "app.bsky.embed.external/defs/colorRGB": "made by AppViews, never in a record",
        "app.bsky.embed.record/defs/view": "made by AppViews, never in a record",
        "app.bsky.embed.record/defs/viewRecord": "made by AppViews, never in a record",
        "app.bsky.embed.record/defs/viewNotFound": "made by AppViews, never in a record",
        "app.bsky.embed.record/defs/viewBlocked": "made by AppViews, never in a record",
        "app.bsky.embed.record/defs/viewDetached": "made by AppViews, never in a record",
        "app.bsky.embed.recordWithMedia/defs/view": "made by AppViews, never in a record",
        "app.bsky.embed.recordWithMedia/defs/main/properties/media/refs":
            "no document of app.bsky.embed.gallery is at hand; the union is open",
    ]

    @Test("our documents have the structure of the published ones, except where a reason says otherwise")
    func structure() throws {
        guard TestFiles.shared != nil else {
            return TestFiles.note("skipped: ../shared is not beside this checkout, so lexicons were not compared")
        }
        var (equal, met) = (0, Set<String>())
        // What administrators do, and what is said of it to whom it concerns, is ours alone.
        let ours = ["zone.stratos.admin.", "zone.stratos.audit."]
        for document in EmbeddedLexicons.documents where !ours.contains(where: document.id.hasPrefix) {
            let file = "reference/lexicons/\(document.id).json"
            guard let theirs = try TestFiles.published(file) else { return }
            let differences = Self.differences(
                Self.withoutDescriptions(try DataModelJSON.decode(Array(document.text.utf8))),
                Self.withoutDescriptions(try DataModelJSON.decode(theirs)), at: document.id)
            equal += differences.isEmpty ? 1 : 0
            for place in differences.sorted() {
                met.insert(place)
                let reason = Self.intended[place]
                #expect(reason != nil, "\(place) differs for no stated reason")
                TestFiles.note("lexicon \(place) differs: \(reason ?? "unexplained")")
            }
        }
        #expect(met == Set(Self.intended.keys), "each stated difference is one")
        TestFiles.note(
            "lexicons: \(equal) of \(EmbeddedLexicons.documents.count) have the published structure, the others differ in \(met.count) places"
        )
    }

    /// Without the members that are prose; a property that is called `description` stays.
    private static func withoutDescriptions(_ value: Value, isProperties: Bool = false) -> Value {
        switch value {
        case .array(let items): return .array(items.map { withoutDescriptions($0) })
        case .map(let members):
            var kept = ValueMap()
            for (key, member) in members where isProperties || key != "description" {
                kept[key] = withoutDescriptions(member, isProperties: key == "properties" && !isProperties)
            }
            return .map(kept)
        default: return value
        }
    }

    /// The places where two documents differ: the path of a member that only one has, or whose values differ and are not both objects.
    private static func differences(_ ours: Value, _ theirs: Value, at path: String) -> Set<String> {
        guard case .map(let left) = ours, case .map(let right) = theirs else { return ours == theirs ? [] : [path] }
        var places: Set<String> = []
        for key in Set(left.map(\.key)).union(right.map(\.key)) {
            if let one = left[key], let other = right[key] {
                places.formUnion(differences(one, other, at: path + "/" + key))
            } else {
                // One more restriction on a property is a difference of the property.
                let isRestriction = path.contains("/properties/") && !path.hasSuffix("/properties")
                places.insert(isRestriction ? path : path + "/" + key)
            }
        }
        return places
    }
}
