"""One repetition of the peers of `tools/bench formats`: prints a JSON line for each thing measured.

    peers.py RECORDS ROUNDS

RECORDS holds DAG-CBOR records, each behind its length in four bytes. Each piece of work goes through all of them ROUNDS times.
"""

import hashlib
import json
import sys
import time

import cbrrr
import libipld


def read(path: str) -> list:
    with open(path, "rb") as file:
        data = file.read()
    records, offset = [], 0
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + 4], "big")
        records.append(data[offset + 4 : offset + 4 + length])
        offset += 4 + length
    return records


def measure(name: str, items: list, rounds: int, work):
    processor, wall = time.process_time(), time.perf_counter()
    for _ in range(rounds):
        for item in items:
            work(item)
    timing = {
        "name": name,
        "operations": len(items) * rounds,
        "wallSeconds": time.perf_counter() - wall,
        "processorSeconds": time.process_time() - processor,
    }
    print(json.dumps(timing))


def main():
    records, rounds = read(sys.argv[1]), int(sys.argv[2])
    values = [libipld.decode_dag_cbor(record) for record in records]
    cbrrr_values = [cbrrr.decode_dag_cbor(record) for record in records]
    texts = [json.dumps(cbrrr.decode_dag_cbor(record, atjson_mode=True), ensure_ascii=False).encode() for record in records]
    prefix = bytes([0x01, 0x71, 0x12, 0x20])

    def json_to_cid(text: bytes):
        data = cbrrr.encode_dag_cbor(json.loads(text), atjson_mode=True)
        libipld.encode_cid(prefix + hashlib.sha256(data).digest())

    measure("libipld: DAG-CBOR encode", values, rounds, libipld.encode_dag_cbor)
    measure("libipld: DAG-CBOR decode", records, rounds, libipld.decode_dag_cbor)
    measure("cbrrr: DAG-CBOR encode", cbrrr_values, rounds, cbrrr.encode_dag_cbor)
    measure("cbrrr: DAG-CBOR decode", records, rounds, cbrrr.decode_dag_cbor)
    measure("json + cbrrr + hashlib: JSON to CID", texts, rounds, json_to_cid)


if __name__ == "__main__":
    main()
