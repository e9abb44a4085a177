"""Goes the whole way through a devnet's OAuth with a client that shares no code with it: PyPI atproto-oauth.

    oauth_check.py PLC_URL PDS_URL HANDLE

Once as a public client of the development form, once as a confidential one whose metadata document is served here. The library
reaches public servers alone, so three things of it are replaced: its resolver asks the devnet's directory, `is_safe_url` knows
the devnet's two origins and no others, and of the server's metadata the issuer is judged as if it were https without a port. All
else is the library as it is. Prints one line a client, and exits with 1 at the first thing that is not so.
"""

import asyncio
import http.server
import json
import sys
import threading
from urllib.parse import parse_qs, urlencode, urlsplit

import atproto_oauth.client
import atproto_oauth.metadata
import atproto_oauth.security
import httpx
from atproto_identity.resolver import AsyncIdResolver
from atproto_oauth import OAuthClient
from atproto_oauth.dpop import DPoPManager
from atproto_oauth.stores import MemorySessionStore, MemoryStateStore
from cryptography.hazmat.primitives.asymmetric import ec

COLLECTION = "com.example.note"
SCOPE = f"atproto repo:{COLLECTION}"
REDIRECT = "http://127.0.0.1:7777/callback"


def open_to_loopback(plc, pds):
    """Replaces what keeps the library from a server on this machine."""
    origins = {urlsplit(url)[:2] for url in (plc, pds)}

    def is_safe_url(url, allow_localhost=False):
        return urlsplit(url)[:2] in origins

    for module in (atproto_oauth.client, atproto_oauth.metadata, atproto_oauth.security):
        module.is_safe_url = is_safe_url
    validate = atproto_oauth.metadata.validate_authserver_metadata

    def validate_as_public(metadata, url):
        if metadata["issuer"] != pds:
            raise ValueError(f"another issuer: {metadata['issuer']}")
        validate(metadata | {"issuer": f"https://{urlsplit(pds).hostname}"}, url)

    atproto_oauth.metadata.validate_authserver_metadata = validate_as_public


class Resolver(AsyncIdResolver):
    """Asks the devnet for handles; DIDs come from its directory as they do from the public one."""

    def __init__(self, plc, pds):
        super().__init__(plc_url=plc)
        self.pds = pds
        self.handle.resolve = self.resolve_handle

    async def resolve_handle(self, handle):
        async with httpx.AsyncClient() as client:
            answer = await client.get(
                self.pds + "/xrpc/com.atproto.identity.resolveHandle", params={"handle": handle}
            )
            return answer.json()["did"]


def serve_metadata(key):
    """Serves the document of a confidential client from a thread; gives its address, which is the client's identifier."""
    document = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    client_id = f"http://127.0.0.1:{server.server_port}/client-metadata.json"
    document |= {
        "client_id": client_id,
        "client_name": "A confidential client",
        "redirect_uris": [REDIRECT],
        "scope": SCOPE,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "application_type": "web",
        "dpop_bound_access_tokens": True,
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_signing_alg": "ES256",
        "jwks": {"keys": [DPoPManager._key_to_jwk(key) | {"kid": "key-1", "alg": "ES256", "use": "sig"}]},
    }
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return client_id


async def check(name, client, pds, handle):
    count = 0

    def expect(condition, what):
        nonlocal count
        count += 1
        if not condition:
            sys.exit(f"{name}: {what}")

    async with httpx.AsyncClient() as plain:
        url, state = await client.start_authorization(handle)
        consent = await plain.post(pds + "/devnet/consent", json={"url": url, "account": handle, "decision": "accept"})
        location = consent.json()["location"]
        expect(location.startswith(REDIRECT + "?"), "the callback goes elsewhere")
        answer = {key: value[0] for key, value in parse_qs(urlsplit(location).query).items()}
        expect(answer["state"] == state, "the state is another")
        session = await client.handle_callback(answer["code"], answer["state"], answer["iss"])
        expect(session.scope == SCOPE and session.refresh_token, "the session is not what was asked for")

        first = session.access_token
        session = await client.refresh_session(session)
        expect(session.access_token != first, "the access token is the old one")

        async def call(method, **fields):
            return await client.make_authenticated_request(
                session, "POST", f"{pds}/xrpc/com.atproto.repo.{method}", json={"repo": session.did} | fields
            )

        place = {"collection": COLLECTION, "rkey": name}
        put = await call("putRecord", **place, record={"text": "hello"})
        expect(put.status_code == 200 and put.json()["uri"] == f"at://{session.did}/{COLLECTION}/{name}", put.text)
        query = urlencode({"repo": handle} | place)
        shown = await plain.get(f"{pds}/xrpc/com.atproto.repo.getRecord?{query}")
        expect(shown.json()["value"] == {"$type": COLLECTION, "text": "hello"}, "the record is another")
        other = await call("putRecord", collection="com.example.other", rkey="a", record={})
        expect(other.status_code == 403 and other.json()["error"] == "ScopeMissingError", other.text)
        deleted = await call("deleteRecord", **place)
        expect(deleted.status_code == 200, deleted.text)
        gone = await plain.get(f"{pds}/xrpc/com.atproto.repo.getRecord?{query}")
        expect(gone.json()["error"] == "RecordNotFound", "the record is still there")

        await client.revoke_session(session)
        refused = await call("putRecord", **place, record={"text": "again"})
        expect(refused.status_code == 401 and refused.json()["error"] == "invalid_token", refused.text)
        writes = (await plain.get(pds + "/devnet/writes")).json()["writes"]
        mine = [write["action"] for write in writes if write["uri"].endswith("/" + name)]
        expect(mine == ["create", "delete"], f"the PDS counted {mine}")
    print(f"{name}: {count} checks", flush=True)


async def main():
    plc, pds, handle = sys.argv[1:]
    open_to_loopback(plc, pds)
    key = ec.generate_private_key(ec.SECP256R1())
    public_id = "http://localhost?" + urlencode({"redirect_uri": "http://127.0.0.1/callback", "scope": SCOPE})
    for name, identity in [
        ("public", {"client_id": public_id}),
        ("confidential", {"client_id": serve_metadata(key), "client_secret_key": key, "client_secret_kid": "key-1"}),
    ]:
        client = OAuthClient(
            redirect_uri=REDIRECT,
            scope=SCOPE,
            state_store=MemoryStateStore(),
            session_store=MemorySessionStore(),
            **identity,
        )
        client._id_resolver = Resolver(plc, pds)
        await check(name, client, pds, handle)


if __name__ == "__main__":
    asyncio.run(main())
