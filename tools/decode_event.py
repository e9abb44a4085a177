#!/usr/bin/env python3
"""Decodes and verifies one event of a Stratos log without any code of Stratos.

    decode_event.py EVENT.cbor BODY.cbor --key did:key:zQ3sh… [--chunk CHUNK.cbor]…

Prints the event and its body as JSON. Exits 1 with a reason if anything is not as Sources/EventLog/FORMAT.md says:
the canonical form, the fields, the CID of the body, the signature of the service's key. Needs libipld and cryptography
(tools/make-fixtures --venv makes an environment that has them).
"""

import argparse
import base64
import hashlib
import json
import re
import sys
from datetime import datetime
from pathlib import Path

import libipld
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature


class Refused(Exception):
    """What is wrong, in a sentence."""


def require(condition: bool, reason: str):
    if not condition:
        raise Refused(reason)


# Canonical DAG-CBOR. libipld accepts more than one encoding of a value and gives links and bytes as the same type, so the
# strict rules are applied here, and libipld must then find the same value.

DEPTH_MAX = 8


class Link(bytes):
    """The 36 bytes of a CID: version 1, DAG-CBOR or raw, SHA-256."""


class Reader:
    def __init__(self, data: bytes):
        self.data = data
        self.offset = 0

    def take(self, count: int) -> bytes:
        require(count <= len(self.data) - self.offset, "ends too early")
        self.offset += count
        return self.data[self.offset - count : self.offset]

    def head(self) -> tuple[int, int]:
        first = self.take(1)[0]
        major, short = first >> 5, first & 31
        if short < 24 or major == 7:
            return major, short
        require(short <= 27, "a length that is indefinite or reserved")
        width = 1 << (short - 24)
        argument = int.from_bytes(self.take(width), "big")
        require(argument >= (24 if width == 1 else 1 << (4 * width)), "an integer or a length not in its shortest form")
        return major, argument

    def value(self, depth: int = 0):
        require(depth <= DEPTH_MAX, "nested too deep")
        major, argument = self.head()
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 2:
            return self.take(argument)
        if major == 3:
            try:
                return self.take(argument).decode("utf-8")
            except UnicodeDecodeError as error:
                raise Refused("a text that is not UTF-8") from error
        if major == 4:
            return [self.value(depth + 1) for _ in range(self.count(argument))]
        if major == 5:
            return self.members(argument, depth)[0]
        if major == 6:
            return self.link(argument)
        require(argument in (20, 21, 22), "a float, or a simple value that is not false, true or null")
        return {20: False, 21: True, 22: None}[argument]

    def count(self, argument: int) -> int:
        require(argument <= len(self.data) - self.offset, "more members than there are bytes")
        return argument

    def members(self, argument: int, depth: int) -> tuple[dict, dict]:
        """A map, and where in the data each of its members begins and ends."""
        members, spans, last = {}, {}, None
        for _ in range(self.count(argument)):
            start = self.offset
            key = self.value(depth + 1)
            require(isinstance(key, str), "a key that is not a text")
            order = (len(key.encode()), key.encode())
            require(last is None or last < order, "keys that are not in order, or one of them twice")
            last = order
            members[key] = self.value(depth + 1)
            spans[key] = (start, self.offset)
        return members, spans

    def link(self, tag: int) -> Link:
        require(tag == 42, "a tag other than 42")
        major, count = self.head()
        content = self.take(count) if major == 2 else None
        require(isinstance(content, bytes) and len(content) == 37 and content[0] == 0, "a link that is not a CID")
        require(content[1:5] in (b"\x01\x71\x12\x20", b"\x01\x55\x12\x20"), "a link by another version, codec or hash")
        return Link(content[1:])


def same(ours, theirs) -> bool:
    """Whether libipld's value is ours; it gives a link as `bytes`."""
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return isinstance(theirs, list) and len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, bytes):
        return isinstance(theirs, bytes) and bytes(ours) == theirs
    return type(ours) is type(theirs) and ours == theirs


def canonical(data: bytes, what: str, most: int) -> tuple[dict, dict]:
    """The map that `data` is the only encoding of, and where its members stand."""
    require(len(data) <= most, f"{what}: {len(data)} bytes, at most {most} are allowed")
    reader = Reader(data)
    try:
        major, argument = reader.head()
        require(major == 5, "not a map")
        members, spans = reader.members(argument, 0)
        require(reader.offset == len(data), "bytes after its end")
    except Refused as refusal:
        raise Refused(f"{what}: {refusal}") from None
    try:
        theirs = libipld.decode_dag_cbor(data)
    except Exception as error:  # libipld raises more than one type for bad input
        raise Refused(f"{what}: libipld cannot decode it: {error}") from error
    require(same(members, theirs), f"{what}: libipld decodes another value")
    return members, spans


def without(data: bytes, spans: dict, name: str) -> bytes:
    """The canonical map of fewer than 24 members without one of them: what is signed, where `name` is the signature."""
    start, end = spans[name]
    require(1 <= data[0] - 0xA0 < 24, "a map with too many members")
    return bytes([data[0] - 1]) + data[1:start] + data[end:]


# Keys and signatures

K256_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# The two bytes before the point in a did:key, and the order of the curve.
CURVES = {ec.SECP256K1: (b"\xe7\x01", K256_ORDER), ec.SECP256R1: (b"\x80\x24", P256_ORDER)}


def public_key(did_key: str, curve) -> ec.EllipticCurvePublicKey:
    require(re.fullmatch("did:key:z[" + BASE58 + "]{1,60}", did_key, re.ASCII) is not None, f"{did_key!r} is not a did:key")
    number = 0
    for character in did_key[len("did:key:z") :]:
        number = number * 58 + BASE58.index(character)
    require(number < 1 << 280, f"{did_key} is too long")
    data = number.to_bytes(35, "big")
    require(data[:2] == CURVES[curve][0], f"{did_key} is not a key on {curve.name}")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(curve(), data[2:])
    except ValueError as error:
        raise Refused(f"{did_key} is not a point of the curve") from error


def verify(signature: bytes, message: bytes, did_key: str, what: str, curve=ec.SECP256K1):
    """ECDSA over SHA-256: r then s in 64 bytes, s in the lower half of the order. Service keys are on secp256k1, actors' on P-256."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    order = CURVES[curve][1]
    require(0 < r < order and 0 < s <= order // 2, f"{what}: r or s is out of range, or s is high")
    try:
        public_key(did_key, curve).verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise Refused(f"{what}: does not verify under {did_key}") from error


# Shapes: each takes a value and its place, and refuses what does not fit.

INTEGER_MAX = (1 << 53) - 1


def text(most: int, least: int = 1, pattern: str = ".*"):
    def check(value, place):
        require(isinstance(value, str) and least <= len(value.encode()) <= most, f"{place}: a text of {least} to {most} bytes")
        require(re.fullmatch(pattern, value, re.ASCII | re.DOTALL) is not None, f"{place}: {value!r} has another form")

    return check


def word(*words: str):
    def check(value, place):
        require(isinstance(value, str) and value in words, f"{place}: one of {', '.join(words)}")

    return check


def octets(count: int = 0, most: int = 0):
    def check(value, place):
        fits = isinstance(value, bytes) and not isinstance(value, Link)
        require(fits and (len(value) == count if count else 1 <= len(value) <= most), f"{place}: {count or f'1 to {most}'} bytes")

    return check


def number(least: int = 0, most: int = INTEGER_MAX):
    def check(value, place):
        fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        require(fits, f"{place}: an integer from {least} to {most}")

    return check


def link(codec: int = 0x71):
    def check(value, place):
        require(isinstance(value, Link) and value[1] == codec, f"{place}: a link with the codec 0x{codec:x}")

    return check


def key(curve):
    return lambda value, place: (text(128)(value, place), public_key(value, curve))


def array(shape, most: int, least: int = 0, rising: bool = False):
    def check(value, place):
        require(isinstance(value, list) and least <= len(value) <= most, f"{place}: an array of {least} to {most}")
        for index, item in enumerate(value):
            shape(item, f"{place}[{index}]")
        if rising:
            items = [item.encode() if isinstance(item, str) else item for item in value]
            require(all(a < b for a, b in zip(items, items[1:])), f"{place}: not in order, or one of them twice")

    return check


def record(**members):
    """A map of these members and no others; the names of those that may be absent end in an underscore."""
    members = {name.rstrip("_"): (shape, not name.endswith("_")) for name, shape in members.items()}

    def check(value, place):
        require(isinstance(value, dict), f"{place}: a map")
        for name in value:
            require(name in members, f"{place}: {name!r} is not a known field")
        for name, (shape, needed) in members.items():
            if name in value:
                shape(value[name], f"{place}.{name}")
            else:
                require(not needed, f"{place}: {name} is missing")

    return check


def variant(name: str, shapes: dict):
    """A map whose member `name` says which of `shapes` it has."""

    def check(value, place):
        require(isinstance(value, dict) and isinstance(value.get(name), str) and value[name] in shapes, f"{place}.{name}: one of {', '.join(shapes)}")
        shapes[value[name]](value, place)

    return check


def having(name: str, present, absent):
    """A map of the one shape where it has the member `name`, else of the other."""
    return lambda value, place: (present if isinstance(value, dict) and name in value else absent)(value, place)


def any_link(value, place):
    require(isinstance(value, Link), f"{place}: a link")


def true(value, place):
    require(value is True, f"{place}: true, or absent")


def time(value, place):
    text(24, 24, r"(19[7-9]\d|[2-9]\d{3})-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")(value, place)
    try:
        datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%fZ")
    except ValueError as error:
        raise Refused(f"{place}: {value} is no time") from error


def setting(value, place):
    if isinstance(value, bytes):
        octets(32)(value, place)
    elif isinstance(value, str):
        text(2048, 0)(value, place)
    elif not isinstance(value, bool):
        number(-INTEGER_MAX)(value, place)


def settings(value, place):
    require(isinstance(value, dict) and len(value) <= 256, f"{place}: a map of at most 256")
    for name, item in value.items():
        text(64)(name, place)
        setting(item, f"{place}.{name}")


def or_null(shape):
    return lambda value, place: value is None or shape(value, place)


# The format: Sources/EventLog/FORMAT.md

EVENT_BYTES_MAX = 4096
BODY_BYTES_MAX = 1 << 20

did = text(200, 1, r"did:[a-z]+:[A-Za-z0-9._:%-]*[A-Za-z0-9._-]")
nsid = text(317, 1, r"[a-zA-Z][a-zA-Z0-9-]*(\.[a-zA-Z0-9-]+)+\.[a-zA-Z][a-zA-Z0-9]*")
uri = text(8192, 1, r"at://.+")
path = text(830, 1, r"[a-zA-Z0-9.-]+/[A-Za-z0-9._:~-]{1,512}")
reason = text(2000, 0)
boundaries = array(text(253, 1, r"[!-~]+"), 256, rising=True)
salt = octets(32)

credential = word("dpop", "serviceAuth", "appView", "admin", "dev", "operator", "oauth", "system")
agent = having("administrator", record(administrator=text(128), credential=credential), record(did=did, credential=credential))
request = record(key=octets(32), input=octets(32), method=nsid)
attestation = record(sig=octets(64), signingKey=key(ec.SECP256K1))
commit = record(rev=text(13, 13, r"[234567a-j][234567a-z]{12}"), data=link(), sig=octets(64))

parent = record(uri=uri, cid=link(), seq=number(1))
blobs = array(any_link, 1000, 1, rising=True)
written = dict(cid=link(), size=number(1), boundaries=boundaries, against_=parent, blobs_=blobs)
before = dict(prev=link(), was=boundaries)
operation = variant(
    "action",
    {
        "create": record(action=word("create"), path=path, **written),
        "update": record(action=word("update"), path=path, **written, **before),
        "delete": record(action=word("delete"), path=path, **before),
    },
)
subject = variant(
    "type",
    {
        "account": record(type=word("account")),
        "record": record(type=word("record"), path=path, cid_=link()),
        "blob": record(type=word("blob"), cid=link(0x55)),
    },
)
chunk = record(first=number(), ops=array(or_null(operation), 1000, 1), salt=salt)
targets = array(record(seq=number(1), op=number()), 10_000, 1)
residue = having(
    "chunks",
    record(seq=number(1), commit=commit, chunks=array(link(), 20_000)),
    record(seq=number(1), commit=commit, ops=array(or_null(operation), 200)),
)
blob_state = word("temporary", "visible", "quarantined", "gone")


def body(**members):
    return record(salt=salt, by=agent, request_=request, **members)


BODIES = {
    "service.start": body(
        version=text(64),
        build=octets(32),
        service=did,
        key=key(ec.SECP256K1),
        boundaries=boundaries,
        generation=number(0, 8191),
        before_=number(),
        tagKey_=octets(32),
    ),
    "service.key": body(service=did, epoch=number(2), key=key(ec.SECP256K1), accept_=octets(64), lost_=true),
    "service.config": body(settings=settings),
    "account.enroll": body(
        boundaries=boundaries,
        key=key(ec.SECP256R1),
        attestation=attestation,
        pds_=text(2048),
        rkey_=text(512),
        tagKey=octets(32),
        commit=commit,
    ),
    "account.boundaries": body(before=boundaries, after=boundaries, attestation=attestation),
    "account.attest": body(reason=reason, attestation=attestation),
    "account.key": body(key=key(ec.SECP256R1), old=key(ec.SECP256R1), attestation=attestation, commit=commit),
    "account.leave": body(content=word("kept", "erase"), reason=reason),
    "repo.write": body(ops=array(operation, 200), commit=commit),
    "repo.import": body(chunks=array(link(), 20_000), ops=number(), commit=commit, source=octets(most=4096)),
    "blob.put": body(cid=link(0x55), mimeType=text(255), size=number()),
    "blob.state": body(cid=link(0x55), **{"from": blob_state}, to=blob_state, reason=reason),
    "moderation.takedown": body(subject=subject, reference=text(1000, 0), reason=reason),
    "moderation.restore": body(subject=subject, reference=text(1000, 0), reason=reason),
    "erasure": variant(
        "scope",
        {
            "content": body(scope=word("content"), targets=targets, reason=reason),
            "trace": body(scope=word("trace"), targets=targets, residue=array(residue, 10_000, 1), reason=reason),
            "actor": body(scope=word("actor"), reason=reason),
        },
    ),
    "erasure.done": body(erasure=number(1), bodies=number(), blocks=number(), blobs=number()),
    "admin.read": body(uri=uri, cid_=link(), reason=reason),
}

EVENT = record(
    v=number(1, 1),
    did=did,
    seq=number(1),
    prev=or_null(link()),
    time=time,
    kind=text(64, 1, r"[a-z]+(\.[a-z]+)*"),
    body=link(),
    keyEpoch=number(1),
    sig=octets(64),
)


def cid_of(data: bytes) -> Link:
    return Link(b"\x01\x71\x12\x20" + hashlib.sha256(data).digest())


def check_common(body: dict):
    """Of a kind that this script does not know: only what every body has."""
    for name, shape in (("salt", salt), ("by", agent)):
        require(name in body, f"body: {name} is missing")
        shape(body[name], f"body.{name}")
    if "request" in body:
        request(body["request"], "body.request")


def check_service(event: dict, body: dict, data: bytes, spans: dict, did_key: str):
    """What goes together in the service's own log."""
    require(body.get("service", event["did"]) == event["did"], "body.service: not the DID of this log")
    if event["kind"] == "service.start":
        require(body["key"] == did_key, "body.key: not the key that signed the event")
        require(("tagKey" in body) == (event["seq"] == 1), "body.tagKey: in event 1, and only there")
        require("before" not in body or body["generation"] > 0, "body.before: not in generation 0")
    elif event["kind"] == "service.key":
        require(("accept" in body) != ("lost" in body), "body.accept: or lost in its place")
        if "accept" in body:
            require(body["epoch"] == event["keyEpoch"] + 1, "body.epoch: not the next one")
            verify(body["accept"], without(data, spans, "accept"), body["key"], "body.accept")
        else:
            require(body["epoch"] == event["keyEpoch"] and body["key"] == did_key, "body.lost: the new key of the new epoch signs the event")


def check_actor(event: dict, body: dict, did_key: str):
    """What goes together in an actor's log, as far as one event shows it."""
    if "attestation" in body:
        require(body["attestation"]["signingKey"] == did_key, "body.attestation: not by the key that signed the event")
    if event["kind"] == "account.enroll":
        # libipld takes bytes that begin like a CID for a link: only texts and true links are encoded with it.
        statement = {"did": event["did"], "boundaries": body["boundaries"], "signingKey": body["key"]}
        verify(body["attestation"]["sig"], libipld.encode_dag_cbor(statement), did_key, "body.attestation.sig")
    if event["kind"] in ("account.enroll", "account.key"):
        commit = {"did": event["did"], "rev": body["commit"]["rev"], "data": bytes(body["commit"]["data"]), "prev": None, "version": 3}
        verify(body["commit"]["sig"], libipld.encode_dag_cbor(commit), body["key"], "body.commit.sig", ec.SECP256R1)
    if event["kind"] == "repo.write":
        paths = [operation["path"] for operation in body["ops"]]
        require(len(set(paths)) == len(paths), "body.ops: a path twice")
        require(paths or "request" in body, "body.ops: none, and no request that came to nothing")
    if event["kind"] == "erasure" and body["scope"] != "actor":
        places = [(target["seq"], target["op"]) for target in body["targets"]]
        require(all(a < b for a, b in zip(places, places[1:])), "body.targets: not in order, or one of them twice")
        if "residue" in body:
            sequences = sorted({sequence for sequence, _ in places})
            require([rest["seq"] for rest in body["residue"]] == sequences, "body.residue: one for each event that the targets name, in order")


def check_chunks(body: dict, chunks: list[bytes]) -> list:
    """The operations of an import, if the chunks are given: exactly those that the body links, in order."""
    require([cid_of(data) for data in chunks] == body["chunks"], "chunks: not those that the body names, in order")
    operations = []
    for data in chunks:
        value, _ = canonical(data, "chunk", BODY_BYTES_MAX)
        chunk(value, "chunk")
        require(value["first"] == len(operations), "chunk.first: not how many operations come before")
        operations += value["ops"]
    require(len(operations) == body["ops"], "body.ops: not how many operations the chunks hold")
    return operations


def as_json(value):
    """The JSON form of the AT Protocol data model."""
    if isinstance(value, Link):
        return {"$link": "b" + base64.b32encode(value).decode().lower().rstrip("=")}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode().rstrip("=")}
    if isinstance(value, dict):
        return {name: as_json(member) for name, member in value.items()}
    if isinstance(value, list):
        return [as_json(member) for member in value]
    return value


def decode(event_data: bytes, body_data: bytes, did_key: str, chunks: list[bytes] = ()) -> dict:
    """Both decoded and verified, in the order of what it costs. Raises `Refused` with the reason when anything does not hold."""
    event, spans = canonical(event_data, "event", EVENT_BYTES_MAX)
    EVENT(event, "event")
    require((event["prev"] is None) == (event["seq"] == 1), "event.prev: null at seq 1, and only there")
    require(event["seq"] > 1 or event["kind"] in ("service.start", "account.enroll"), "event.kind: no log begins with this")
    require(event["body"] == cid_of(body_data), "body: its CID is not the one that the event names")
    verify(event["sig"], without(event_data, spans, "sig"), did_key, "event.sig")

    body, body_spans = canonical(body_data, "body", BODY_BYTES_MAX)
    if event["kind"] not in BODIES:
        check_common(body)
    else:
        BODIES[event["kind"]](body, "body")
        if event["kind"].startswith("service."):
            check_service(event, body, body_data, body_spans, did_key)
        else:
            check_actor(event, body, did_key)
    result = {"cid": as_json(cid_of(event_data))["$link"], "event": as_json(event), "body": as_json(body)}
    if chunks:
        require(event["kind"] == "repo.import", "chunks: only an import has them")
        result["ops"] = as_json(check_chunks(body, list(chunks)))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("event")
    parser.add_argument("body")
    parser.add_argument("--key", required=True, help="did:key of the service key that was in force")
    parser.add_argument("--chunk", action="append", default=[], help="a chunk of an import; one --chunk for each, in order")
    arguments = parser.parse_args()
    try:
        files = [Path(name).read_bytes() for name in (arguments.event, arguments.body, *arguments.chunk)]
        result = decode(files[0], files[1], arguments.key, files[2:])
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        sys.exit(1)
    print(json.dumps(result, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
