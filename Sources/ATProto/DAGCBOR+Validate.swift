/// The strict decoder's walk without its values: what `decode` accepts is valid here and nothing else is, by the same rules. For bytes that
/// are kept as bytes, such as the records of a repository on their way into a store.
extension DAGCBOR {
    /// Checks that an input is one value from its first byte to its last.
    public static func validate(_ bytes: [UInt8], limits: DecodingLimits = .standard) throws(DAGCBORError) {
        try validate(bytes.span, limits: limits)
    }

    /// Checks that an input is one value from its first byte to its last.
    public static func validate(_ bytes: Span<UInt8>, limits: DecodingLimits = .standard) throws(DAGCBORError) {
        var decoder = DAGCBORDecoder(bytes, at: 0, limits: limits)
        try decoder.skip(depth: 0)
        guard decoder.offset == bytes.count else {
            throw DAGCBORError(bytes.count > limits.bytesMax ? .tooLong(max: limits.bytesMax) : .trailingBytes, at: decoder.offset)
        }
    }
}

extension DAGCBORDecoder {
    /// Past the value at `offset`.
    /// - Parameter depth: the number of containers around it.
    @_lifetime(self: copy self)
    mutating func skip(depth: Int) throws(DAGCBORError) {
        guard offset < end else { throw ended(at: offset) }
        switch input[unchecked: offset] >> 5 {
        case 2: _ = try contents()
        case 3: try skipString(in: text())
        case 4:
            for _ in 0..<(try count(depth: depth, bytesEach: 1)) { try skip(depth: depth + 1) }
        case 5:
            var previous: Range<Int>? = nil
            for _ in 0..<(try count(depth: depth, bytesEach: 2)) {
                let key = try key(after: previous)
                try skipString(in: key)
                try skip(depth: depth + 1)
                previous = key
            }
        // Integers, links, booleans and null take no allocation.
        default: _ = try value(depth: depth)
        }
    }

    private func skipString(in range: Range<Int>) throws(DAGCBORError) {
        if isASCII(input.extracting(range)) { return }
        do throws(UTF8.ValidationError) {
            _ = try UTF8Span(validating: input.extracting(range))
        } catch {
            throw DAGCBORError(.invalidUTF8, at: range.lowerBound + error.byteOffsets.lowerBound)
        }
    }
}
