#!/usr/bin/env python3
"""Follows a Stratos service's stream without any code of Stratos, rebuilds every record from it, and compares.

    follow.py URL --did DID [--quiet SECONDS] [--cursor N] [--disconnect-every N] [--lists] [--repo]
    follow.py URL                       who joined the service and what they are members of

Each message must be two values of canonical DAG-CBOR; each record must hash to the CID beside it; numbers must rise. The operations are
applied in order, so what is left is every record that the reader may see. --lists compares that with the pages of
`com.atproto.repo.listRecords`, value by value; --repo with the tree of the CAR that `com.atproto.sync.getRepo` exports, key by key.

The last line is one JSON object with the SHA-256 over all messages, each behind its length in eight bytes: the same log gives the same
stream, so after a rebuild the hash is the one before. With --disconnect-every the connection is closed after so many new messages and
opened again with the cursor of the last one; messages that come twice are left out of the hash.

The stream's token is read from STRATOS_FOLLOW_TOKEN: the service's sync token, or a JWT or in development a bare DID. Lists and repo are
read with STRATOS_READ_TOKEN. Exits 1 with a reason if anything does not hold. Needs websockets and cbrrr (tools/make-fixtures --venv).
"""

import argparse
import hashlib
import io
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

import cbrrr
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

METHOD = "zone.stratos.sync.subscribeRecords"
MESSAGE_BYTES_MAX = 4 << 20
OPERATIONS_MAX = 200
ANSWER_BYTES_MAX = 256 << 20


class Refused(Exception):
    """Something does not hold; the text says what."""


def require(holds: bool, reason: str) -> None:
    if not holds:
        raise Refused(reason)


def is_bearer(token: str) -> bool:
    return token.startswith("did:") or (token.count(".") == 2 and " " not in token)


# Messages


def split(message: bytes) -> tuple[dict, dict]:
    """Header and body, which together are the message, in the only encoding that they have."""
    values = list(cbrrr.decode_multi_dag_cbor_in_violation_of_the_spec(message))
    require(len(values) == 2 and all(isinstance(value, dict) for value in values), "a message is a header and a body")
    require(b"".join(cbrrr.encode_dag_cbor(value) for value in values) == message, "a message in another encoding than its own")
    return values[0], values[1]


class Repo:
    """What the operations so far leave."""

    def __init__(self) -> None:
        self.records: dict[str, tuple[str, bytes]] = {}
        self.operations = 0

    def apply(self, operation: dict) -> None:
        path, action = operation["path"], operation["action"]
        require(path.count("/") == 1 and not path.startswith("/"), f"not a path: {path}")
        self.operations += 1
        # A version that is gone by now is not told any more, but what followed it is: so what is deleted or updated may be new to us.
        if action == "delete":
            require("record" not in operation and "cid" not in operation, f"{path}: a deletion with content")
            self.records.pop(path, None)
            return
        require(action in ("create", "update"), f"{path}: {action}")
        require(action == "update" or path not in self.records, f"{path}: created, and was there")
        block = cbrrr.encode_dag_cbor(operation["record"])
        require(isinstance(operation["cid"], cbrrr.CID), f"{path}: the CID is no link")
        require(cbrrr.CID.cidv1_dag_cbor_sha256_32_from(block) == operation["cid"], f"{path}: not the record of its CID")
        self.records[path] = (operation["cid"].encode(), block)


class Stream:
    """Messages of a service after a cursor, until it has been quiet for a while."""

    def __init__(self, service: str, did: str | None, cursor: int | None, token: str, quiet: float, disconnect_every: int | None) -> None:
        self.service, self.did, self.token, self.quiet = service, did, token, quiet
        self.cursor, self.disconnect_every = cursor, disconnect_every
        self.connections = 0
        # Messages of this connection that did not come before.
        self.fresh = 0

    def open(self):
        parameters = {} if self.did is None else {"did": self.did}
        if self.cursor is not None:
            parameters["cursor"] = str(self.cursor)
        headers = {}
        if is_bearer(self.token):
            headers["Authorization"] = f"Bearer {self.token}"
        else:
            parameters["syncToken"] = self.token
        self.connections += 1
        url = self.service.replace("http", "ws", 1) + f"/xrpc/{METHOD}?{urllib.parse.urlencode(parameters)}"
        # What was sent meanwhile is not taken any more when this end closes, so there is little to wait for.
        return connect(url, additional_headers=headers, max_size=MESSAGE_BYTES_MAX, compression=None, close_timeout=0.05)

    def __iter__(self):
        while True:
            self.fresh = 0
            with self.open() as socket:
                while self.disconnect_every is None or self.fresh < self.disconnect_every:
                    try:
                        message = socket.recv(timeout=self.quiet)
                    except TimeoutError:
                        return
                    except ConnectionClosed as end:
                        raise Refused(f"the service closed the stream: {end.rcvd}") from None
                    require(isinstance(message, bytes), "a text message")
                    header, body = split(message)
                    require(header.get("op") != -1, f"the service refused: {body.get('error')}: {body.get('message')}")
                    yield message, header, body


# What the service says over HTTP


def get(service: str, method: str, parameters: dict) -> bytes:
    request = urllib.request.Request(f"{service}/xrpc/{method}?{urllib.parse.urlencode(parameters)}")
    token = os.environ.get("STRATOS_READ_TOKEN")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read(ANSWER_BYTES_MAX)
    except urllib.error.HTTPError as error:
        raise Refused(f"{method}: {error.code} {error.read(1000).decode(errors='replace')}") from None


def listed(service: str, did: str, collections: set[str]) -> dict[str, tuple[str, dict]]:
    """CID and value of every record in the pages of these collections."""
    found: dict[str, tuple[str, dict]] = {}
    for collection in sorted(collections):
        parameters = {"repo": did, "collection": collection, "limit": "100"}
        while True:
            page = json.loads(get(service, "com.atproto.repo.listRecords", parameters))
            for record in page["records"]:
                path = record["uri"].removeprefix(f"at://{did}/")
                require(path not in found, f"{path}: listed twice")
                found[path] = (record["cid"], record["value"])
            if "cursor" not in page:
                break
            parameters["cursor"] = page["cursor"]
    return found


def exported(service: str, did: str) -> dict[str, str]:
    """The tree of the account's repo: every path with its CID."""
    data = io.BytesIO(get(service, "com.atproto.sync.getRepo", {"did": did}))

    def section() -> bytes:
        return data.read(cbrrr.decode_varint(data))

    header = cbrrr.decode_dag_cbor(section())
    require(header["version"] == 1 and len(header["roots"]) == 1, "a CAR with one root")
    blocks: dict[bytes, bytes] = {}
    while data.tell() < len(data.getbuffer()):
        block = section()
        cid = cbrrr.CID(block[:36])
        require(cbrrr.CID.cidv1_dag_cbor_sha256_32_from(block[36:]) == cid, "a block that is not its CID's")
        blocks[bytes(cid)] = block[36:]
    found: dict[str, str] = {}

    def walk(link: cbrrr.CID | None) -> None:
        if link is None:
            return
        node = cbrrr.decode_dag_cbor(blocks[bytes(link)])
        walk(node["l"])
        key = b""
        for entry in node["e"]:
            key = key[: entry["p"]] + entry["k"]
            require(bytes(entry["v"]) in blocks, "a record that is not in the CAR")
            found[key.decode()] = entry["v"].encode()
            walk(entry["t"])

    commit = cbrrr.decode_dag_cbor(blocks[bytes(header["roots"][0])])
    require(commit["did"] == did, "the repo of another account")
    walk(commit["data"])
    return found


def compare(what: str, ours: dict[str, object], theirs: dict[str, object]) -> None:
    missing, more = sorted(theirs.keys() - ours.keys()), sorted(ours.keys() - theirs.keys())
    require(not missing, f"{what}: {len(missing)} records did not come over the stream, {missing[:1]}")
    require(not more, f"{what}: {len(more)} records came over the stream and are not there, {more[:1]}")
    for path, value in ours.items():
        require(value == theirs[path], f"{what}: {path} is another")


# The whole


def follow(arguments: argparse.Namespace) -> dict:
    token = os.environ.get("STRATOS_FOLLOW_TOKEN")
    require(bool(token), "STRATOS_FOLLOW_TOKEN holds the token")
    service = arguments.service.rstrip("/")
    stream = Stream(service, arguments.did, arguments.cursor, token, arguments.quiet, arguments.disconnect_every)
    repo, digest = Repo(), hashlib.sha256()
    counts = {"messages": 0, "bytes": 0, "repeated": 0}
    members: dict[str, list[str]] = {}
    # A commit in parts is asked for again as a whole when the connection was closed within it.
    seen: set[tuple[str, str]] = set()
    rev = None
    for message, header, body in stream:
        kind = header.get("t", "")
        if kind.endswith("#info"):
            continue
        require(stream.cursor is None or body["seq"] >= stream.cursor, "a number before one that came already")
        if kind.endswith("#enrollment"):
            require(arguments.did is None, "a membership in an account's stream")
            if body["action"] == "unenroll":
                members.pop(body["did"], None)
            else:
                members[body["did"]] = body["boundaries"]
        elif kind.endswith("#commit"):
            require(body["did"] == arguments.did, "a commit of another account")
            require(len(body["ops"]) <= OPERATIONS_MAX, "a message of too many operations")
            if body["rev"] != rev:
                rev, seen = body["rev"], set()
            fresh = [operation for operation in body["ops"] if (rev, operation["path"]) not in seen]
            if not fresh:
                counts["repeated"] += 1
                stream.cursor = body["seq"]
                continue
            for operation in fresh:
                seen.add((rev, operation["path"]))
                repo.apply(operation)
        else:
            continue
        stream.cursor = body["seq"]
        stream.fresh += 1
        counts["messages"] += 1
        counts["bytes"] += len(message)
        digest.update(len(message).to_bytes(8, "big") + message)
    result = {
        **counts, "operations": repo.operations, "records": len(repo.records), "connections": stream.connections,
        "cursor": stream.cursor, "sha256": digest.hexdigest(),
    }
    if arguments.did is None:
        return {**result, "members": members}
    if arguments.lists:
        collections = {path.split("/")[0] for path in repo.records}
        compare(
            "listRecords",
            {
                path: (cid, json.loads(json.dumps(cbrrr.decode_dag_cbor(block, atjson_mode=True))))
                for path, (cid, block) in repo.records.items()
            },
            listed(service, arguments.did, collections),
        )
        result["lists"] = "same"
    if arguments.repo:
        compare("getRepo", {path: cid for path, (cid, _) in repo.records.items()}, exported(service, arguments.did))
        result["repo"] = "same"
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description="Follow a Stratos service's stream and rebuild what it tells.")
    parser.add_argument("service", help="the URL of the service")
    parser.add_argument("--did", help="the account to follow; without it, the enrollments")
    parser.add_argument("--cursor", type=int, help="begin after this number")
    parser.add_argument("--quiet", type=float, default=1.0, help="seconds without a message that are the end")
    parser.add_argument("--disconnect-every", type=int, metavar="N", help="connect again after so many new messages")
    parser.add_argument("--lists", action="store_true", help="compare with listRecords")
    parser.add_argument("--repo", action="store_true", help="compare with getRepo")
    try:
        print(json.dumps(follow(parser.parse_args())))
    except (Refused, cbrrr.CbrrrDecodeError, KeyError, OSError) as reason:
        print(f"refused: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
