#!/usr/bin/env python3
"""Verifies what a Stratos service says of a member and of one record, without any code of Stratos.

    verify_attestation.py DID.json STATUS.json PROOF.car at://DID/COLLECTION/RKEY [--absent] [--every-byte]

DID.json is the service's `/.well-known/did.json`, STATUS.json the answer of `zone.stratos.enrollment.status`, PROOF.car that of
`com.atproto.sync.getRecord`. Each leads to the next: the document names the service's key; with it the service attests that the
member holds these boundaries and signs with this did:key; that key signs the commit, which names the tree; and the tree's nodes lead
to the record, or with --absent to the place where it would be. Exits 1 with a reason if anything does not hold.

--every-byte then changes every byte of what was verified, one at a time: of the CAR, of each signature, DID, did:key and boundary. Each
change must be refused, also where every hash on the way is made right again. Needs libipld and cryptography
(tools/make-fixtures --venv makes an environment that has them).
"""

import argparse
import base64
import copy
import hashlib
import json
import re
import sys
from pathlib import Path

import libipld
from cryptography.hazmat.primitives.asymmetric import ec
from decode_event import Link, Refused, canonical, cid_of, require, verify, without

CAR_BYTES_MAX = 64 << 20
BLOCK_BYTES_MAX = 2 << 20


# Content-addressed archives (CAR, version 1)


def varint(data: bytes, offset: int) -> tuple[int, int]:
    """The number at `offset`, in its shortest form, and where it ends."""
    value = 0
    for index in range(5):
        require(offset + index < len(data), "CAR: ends within a length")
        byte = data[offset + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            require(index == 0 or byte > 0, "CAR: a length not in its shortest form")
            return value, offset + index + 1
    raise Refused("CAR: a length of more than five bytes")


def read_car(data: bytes) -> tuple[Link, dict]:
    """The one root, and the blocks by their CIDs: each hashes to its own, and none comes twice."""
    require(len(data) <= CAR_BYTES_MAX, "CAR: too large")
    count, offset = varint(data, 0)
    require(count <= len(data) - offset, "CAR: ends within its header")
    header, _ = canonical(data[offset : offset + count], "CAR header", 1024)
    roots = header.get("roots")
    require(header.keys() == {"roots", "version"} and header["version"] == 1, "CAR: not of version 1")
    require(isinstance(roots, list) and len(roots) == 1 and isinstance(roots[0], Link), "CAR: one root")
    offset += count
    blocks = {}
    while offset < len(data):
        count, offset = varint(data, offset)
        require(36 < count <= len(data) - offset, "CAR: ends within a block")
        cid, block = Link(data[offset : offset + 36]), data[offset + 36 : offset + count]
        require(cid == cid_of(block), "CAR: a block that is not what its CID says")
        require(cid not in blocks, "CAR: a block twice")
        blocks[cid] = block
        offset += count
    return roots[0], blocks


def write_car(root: Link, blocks: list[tuple[Link, bytes]]) -> bytes:
    def with_length(data: bytes) -> bytes:
        count, length = len(data), b""
        while count >= 0x80:
            length, count = length + bytes([count & 0x7F | 0x80]), count >> 7
        return length + bytes([count]) + data

    header = libipld.encode_dag_cbor({"roots": [bytes(root)], "version": 1})
    return with_length(header) + b"".join(with_length(bytes(cid) + block) for cid, block in blocks)


# The tree (atproto.com/specs/repository): a key's layer is half the number of zero bits that its hash begins with


def layer(key: bytes) -> int:
    bits = int.from_bytes(hashlib.sha256(key).digest(), "big")
    return (256 - bits.bit_length()) // 2


def entries(node: dict) -> list[tuple[bytes, Link, Link | None]]:
    """Keys in full, their values, and the subtrees behind them."""
    require(node.keys() == {"e", "l"} and isinstance(node["e"], list), "node: not a node of the tree")
    require(node["l"] is None or isinstance(node["l"], Link), "node: l is no link")
    found, previous = [], b""
    for entry in node["e"]:
        require(isinstance(entry, dict) and entry.keys() == {"k", "p", "t", "v"}, "node: not an entry")
        shared, rest = entry["p"], entry["k"]
        require(isinstance(shared, int) and 0 <= shared <= len(previous) and isinstance(rest, bytes), "node: not a key")
        require(isinstance(entry["v"], Link) and (entry["t"] is None or isinstance(entry["t"], Link)), "node: not a link")
        key = previous[:shared] + rest
        common = next((index for index, (a, b) in enumerate(zip(previous, key)) if a != b), min(len(previous), len(key)))
        require(shared == common, "node: a key that shares more with the one before it than it says")
        require(re.fullmatch(rb"[a-zA-Z0-9.-]+/[A-Za-z0-9._:~-]{1,512}", key) is not None, "node: not the key of a record")
        require(key > previous, "node: keys that are not in order")
        found.append((key, entry["v"], entry["t"]))
        previous = key
    return found


def look_up(root: Link, key: bytes, blocks: dict) -> tuple[Link | None, set]:
    """The CID at `key`, or None where the tree has none; and the nodes that show it."""
    used, cid, low, high, expected = set(), root, b"", None, None
    while True:
        require(cid in blocks, "proof: a node of the path is missing")
        require(cid not in used, "proof: a node below itself")
        used.add(cid)
        node, _ = canonical(blocks[cid], "node", BLOCK_BYTES_MAX)
        found = entries(node)
        layers = {layer(key) for key, _, _ in found}
        require(len(layers) <= 1, "node: keys of more than one layer")
        require(all(low < key and (high is None or key < high) for key, _, _ in found), "node: a key that belongs elsewhere")
        if expected is None:
            require(found or node["l"] is None, "node: a root without keys, and something below it")
            expected = layers.pop() if layers else 0
        require(not layers or layers == {expected}, "node: of another layer than its place")
        below, low_here = node["l"], low
        for entry, value, subtree in found:
            if entry == key:
                return value, used
            if entry > key:
                high = entry
                break
            below, low_here = subtree, entry
        if below is None:
            return None, used
        require(expected > 0, "node: something below the lowest layer")
        cid, low, expected = below, low_here, expected - 1


# What is verified


def service_key(document: dict) -> str:
    """The did:key of `#atproto` in the service's DID document."""
    did = document.get("id")
    require(isinstance(did, str) and re.fullmatch(r"did:[a-z]+:[A-Za-z0-9._:%-]*[A-Za-z0-9._-]", did) is not None, "document: not a DID")
    methods = [method for method in document.get("verificationMethod", []) if method.get("id") == f"{did}#atproto"]
    require(len(methods) == 1, "document: one key is named #atproto")
    require(methods[0].get("type") == "Multikey" and methods[0].get("controller") == did, "document: not a key of this service")
    return f"did:key:{methods[0].get('publicKeyMultibase')}"


def signature_of(attestation: dict) -> bytes:
    text = attestation["sig"].get("$bytes")
    require(isinstance(text, str) and re.fullmatch("[A-Za-z0-9+/]*", text) is not None, "attestation: sig is not in base64")
    require(len(text) == 86, "attestation: a signature has 64 bytes")
    signature = base64.b64decode(text + "==")
    require(base64.b64encode(signature).decode().rstrip("=") == text, "attestation: bits after the end of sig")
    return signature


def check_attestation(document: dict, status: dict) -> list[str]:
    """The boundaries that the service attests. Verifiers sort them: their order in the answer says nothing."""
    key = service_key(document)
    require(status.get("enrolled") is True, "status: not a member")
    boundaries = [boundary["value"] for boundary in status["boundaries"]]
    require(all(boundary.startswith(document["id"] + "/") for boundary in boundaries), "status: a boundary of another service")
    require(len(set(boundaries)) == len(boundaries), "status: a boundary twice")
    require(status["attestation"]["signingKey"] == key, "attestation: not by the key of the document")
    statement = {
        "did": status["did"],
        "boundaries": sorted(boundaries, key=lambda boundary: boundary.encode("utf-16-be")),
        "signingKey": status["signingKey"],
    }
    verify(signature_of(status["attestation"]), libipld.encode_dag_cbor(statement), key, "attestation")
    return statement["boundaries"]


def check_commit(block: bytes, did: str, did_key: str) -> dict:
    commit, spans = canonical(block, "commit", 4096)
    require(commit.keys() == {"did", "version", "data", "rev", "prev", "sig"}, "commit: not the fields of one")
    require(commit["did"] == did and commit["version"] == 3 and commit["prev"] is None, "commit: not one of this repo")
    require(isinstance(commit["data"], Link), "commit: data is no link")
    require(isinstance(commit["rev"], str) and re.fullmatch("[234567a-j][234567a-z]{12}", commit["rev"]) is not None, "commit: rev is no TID")
    require(isinstance(commit["sig"], bytes) and len(commit["sig"]) == 64, "commit: a signature has 64 bytes")
    verify(commit["sig"], without(block, spans, "sig"), did_key, "commit", ec.SECP256R1)
    return commit


def check_proof(car: bytes, uri: str, did: str, did_key: str, absent: bool) -> tuple[dict, Link | None]:
    match = re.fullmatch(r"at://(did:[^/]+)/([a-zA-Z0-9.-]+/[A-Za-z0-9._:~-]{1,512})", uri)
    require(match is not None and match[1] == did, "uri: not of this member")
    root, blocks = read_car(car)
    require(root in blocks, "proof: the commit is missing")
    commit = check_commit(blocks[root], did, did_key)
    cid, used = look_up(commit["data"], match[2].encode(), blocks)
    require((cid is None) == absent, "proof: there is no such record" if cid is None else "proof: there is such a record")
    used.add(root)
    if cid is not None:
        require(cid in blocks, "proof: the record is missing")
        canonical(blocks[cid], "record", BLOCK_BYTES_MAX)
        used.add(cid)
    require(used == blocks.keys(), "proof: blocks that prove nothing")
    return commit, cid


def check(document: dict, status: dict, car: bytes, uri: str, absent: bool) -> tuple[list[str], dict, Link | None]:
    try:
        boundaries = check_attestation(document, status)
        return boundaries, *check_proof(car, uri, status["did"], status["signingKey"], absent)
    except (KeyError, TypeError, AttributeError) as error:
        raise Refused(f"not in the form that the answers have: {error!r}") from error


# Every byte changed


def changed_bytes(data: bytes):
    for place in range(len(data)):
        for mask in (1 << (place % 8), 0xFF):
            yield data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]
    yield data[:-1]
    yield data + b"\0"


def changed_texts(text: str):
    """Each character by its neighbours in the alphabet that DIDs, keys and names are written in."""
    for place, character in enumerate(text):
        for other in {chr(ord(character) ^ 1), chr(ord(character) ^ 2)} - {character}:
            yield text[:place] + other + text[place + 1 :]
    yield text[:-1]
    yield text + "a"


def changes(document: dict, status: dict, car: bytes):
    """What was changed, and the three with one change."""
    name = f"{document['id']}#atproto"
    method = next(index for index, method in enumerate(document["verificationMethod"]) if method["id"] == name)
    places = [("document", "id"), *(("document", "verificationMethod", method, field) for field in ("controller", "publicKeyMultibase"))]
    places += [("status", "did"), ("status", "signingKey"), ("status", "attestation", "signingKey")]
    places += [("status", "attestation", "sig", "$bytes")]
    places += [("status", "boundaries", index, "value") for index in range(len(status["boundaries"]))]
    for place in places:
        both = {"document": document, "status": status}
        text = both
        for step in place:
            text = text[step]
        for other in changed_texts(text):
            copies = copy.deepcopy(both)
            part = copies
            for step in place[:-1]:
                part = part[step]
            part[place[-1]] = other
            yield "/".join(map(str, place)), copies["document"], copies["status"], car
    for index in range(len(status["boundaries"])):
        fewer = copy.deepcopy(status)
        del fewer["boundaries"][index]
        yield f"status without boundary {index}", document, fewer, car
    for other in changed_bytes(signature_of(status["attestation"])):
        copied = copy.deepcopy(status)
        copied["attestation"]["sig"]["$bytes"] = base64.b64encode(other).decode().rstrip("=")
        yield "attestation", document, copied, car
    for other in changed_bytes(car):
        yield "CAR", document, status, other
    # With its CID made right, only its form and its signature are left to tell that a commit was changed.
    root, blocks = read_car(car)
    rest = [(cid, block) for cid, block in blocks.items() if cid != root]
    for other in changed_bytes(blocks[root]):
        yield "commit", document, status, write_car(cid_of(other), [(cid_of(other), other), *rest])
    for cid, block in rest:
        for other in changed_bytes(block):
            others = [(cid_of(other), other) if at == cid else (at, old) for at, old in blocks.items()]
            yield "block", document, status, write_car(root, others)


def try_changes(document: dict, status: dict, car: bytes, uri: str, absent: bool) -> tuple[int, list[str]]:
    tried, accepted = 0, []
    for what, *parts in changes(document, status, car):
        tried += 1
        try:
            # What comes first is the same, and was verified already.
            if parts[2] is car:
                check(*parts, uri, absent)
            else:
                check_proof(parts[2], uri, status["did"], status["signingKey"], absent)
            accepted.append(f"a change of {what} is accepted")
        except Refused:
            pass
    # The search itself can find something: what is not changed is accepted, in any order of the boundaries.
    turned = copy.deepcopy(status)
    turned["boundaries"].reverse()
    check(document, turned, car, uri, absent)
    return tried, accepted


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("document")
    parser.add_argument("status")
    parser.add_argument("proof")
    parser.add_argument("uri")
    parser.add_argument("--absent", action="store_true", help="the proof is of there being no such record")
    parser.add_argument("--every-byte", action="store_true", help="also refuse every change of one byte")
    arguments = parser.parse_args()
    try:
        document, status = (json.loads(Path(name).read_text()) for name in (arguments.document, arguments.status))
        car = Path(arguments.proof).read_bytes()
        boundaries, commit, cid = check(document, status, car, arguments.uri, arguments.absent)
    except (Refused, ValueError) as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        sys.exit(1)
    record = "no record" if cid is None else "b" + base64.b32encode(cid).decode().lower().rstrip("=")
    print(f"holds: {status['did']} has {len(boundaries)} boundaries, commit {commit['rev']}, {record}")
    if arguments.every_byte:
        tried, accepted = try_changes(document, status, car, arguments.uri, arguments.absent)
        for line in accepted[:20]:
            print(line, file=sys.stderr)
        print(f"changes: {tried} tried, {len(accepted)} accepted")
        sys.exit(1 if accepted else 0)


if __name__ == "__main__":
    main()
