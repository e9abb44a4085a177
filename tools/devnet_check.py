"""Reads what a devnet gives with libraries that share no code with it: PyPI atproto, libipld, cryptography.

    devnet_check.py PLC_URL PDS_URL HANDLE...

The accounts have the password `password`. Prints one line an account, and exits with 1 at the first thing that is not so.
"""

import base64
import hashlib
import json
import sys

import httpx
import libipld
from atproto_identity.did.resolver import DidResolver
from atproto_server.auth.jwt import verify_jwt
from atproto_server.exceptions import TokenInvalidSignatureError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

SERVICE = "did:web:service.test#stratos"
METHOD = "zone.stratos.enrollment.status"


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def altered(token):
    """The token with one bit of its signature's first byte turned."""
    head, _, signature = token.rpartition(".")
    changed = bytearray(decoded(signature))
    changed[0] ^= 1
    return head + "." + base64.urlsafe_b64encode(changed).rstrip(b"=").decode()


def plc_did(operation):
    digest = hashlib.sha256(libipld.encode_dag_cbor(operation)).digest()
    return "did:plc:" + base64.b32encode(digest).decode().lower()[:24]


def jwks_verifies(token, jwks):
    """ES256 of the key that the header names, through OpenSSL."""
    head, _, signature = token.rpartition(".")
    kid = json.loads(decoded(head.split(".")[0]))["kid"]
    (jwk,) = [key for key in jwks["keys"] if key["kid"] == kid]
    x, y = (int.from_bytes(decoded(jwk[name]), "big") for name in "xy")
    raw = decoded(signature)
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    try:
        key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        key.verify(encode_dss_signature(r, s), head.encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def check(plc, pds, handle, client):
    count = 0

    def expect(condition, what):
        nonlocal count
        count += 1
        if not condition:
            sys.exit(f"{handle}: {what}")

    did = client.get(pds + "/.well-known/atproto-did", headers={"Host": handle}).text
    genesis = client.get(f"{plc}/{did}/log/audit").json()[0]
    expect(plc_did(genesis["operation"]) == did, "the DID is not the hash of its first operation")
    expect(genesis["cid"] == cid_of(genesis["operation"]), "the CID is not that of the operation")

    document = DidResolver(plc_url=plc).ensure_resolve(did)
    expect(document.get_handle() == handle, "the document names another handle")
    expect(document.get_pds_endpoint() == pds, "the document names another PDS")

    session = client.post(
        pds + "/xrpc/com.atproto.server.createSession", json={"identifier": handle, "password": "password"}
    ).json()
    token = client.get(
        pds + "/xrpc/com.atproto.server.getServiceAuth",
        params={"aud": SERVICE, "lxm": METHOD},
        headers={"Authorization": "Bearer " + session["accessJwt"]},
    ).json()["token"]
    payload = verify_jwt(token, lambda issuer, fresh: document.get_did_key(), SERVICE)
    expect(payload.iss == did and payload.model_extra["lxm"] == METHOD, "the token says something else")
    try:
        verify_jwt(altered(token), lambda issuer, fresh: document.get_did_key(), SERVICE)
        expect(False, "an altered service token verifies")
    except TokenInvalidSignatureError:
        expect(True, "")

    issued = client.post(pds + "/devnet/token", json={"did": did, "jkt": "thumbprint"}).json()
    metadata = client.get(pds + "/.well-known/oauth-authorization-server").json()
    jwks = client.get(metadata["jwks_uri"]).json()
    expect(jwks_verifies(issued["access_token"], jwks), "the access token does not verify")
    expect(not jwks_verifies(altered(issued["access_token"]), jwks), "an altered access token verifies")
    claims = json.loads(decoded(issued["access_token"].split(".")[1]))
    expect(claims["iss"] == metadata["issuer"] == pds and claims["sub"] == did, "the access token is another's")

    algorithm = json.loads(decoded(token.split(".")[0]))["alg"]
    print(f"{handle}: {algorithm} {count} checks", flush=True)


def cid_of(operation):
    digest = hashlib.sha256(libipld.encode_dag_cbor(operation)).digest()
    return "b" + base64.b32encode(b"\x01\x71\x12\x20" + digest).decode().lower().rstrip("=")


def main():
    plc, pds, *handles = sys.argv[1:]
    with httpx.Client() as client:
        for handle in handles:
            check(plc, pds, handle, client)


if __name__ == "__main__":
    main()
