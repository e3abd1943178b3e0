"""Catches albums on S3 that are read by more requests than few, and what is left there of an erased owner."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from jobs import __version__
from jobs.albums.reading import Albums
from jobs.engines import delta_log
from jobs.erasure.forgetting import Asked, forget
from jobs.lakes import LAKE_FORMAT, MARKER
from jobs.lease import acquire
from jobs.tables import TABLES
from tests.bench import live_albums
from tests.s3_server import S3Server
from udfs.albums import files
from udfs.albums.packs import Pictures, key_of
from udfs.stores import objects

OWNERS = ("anna", "ben", "zelda-77")


def test_albums_and_erasure_over_s3(s3: S3Server) -> None:
    lake = f"s3://{s3.bucket}/albums/lake"
    objects.put(f"{lake}/{MARKER}", json.dumps({"format": LAKE_FORMAT, "version": __version__}).encode())
    for name in ("albums", "images"):
        delta_log.create(f"{lake}/{name}", TABLES[name])
    made: list[pa.RecordBatch] = []
    writer = files.Writer(f"{lake}/albums", 1)
    rows: list[dict[str, Any]] = []
    for owner in sorted(OWNERS, key=key_of):
        ids = np.arange(40, dtype=np.int64) + 1000 * OWNERS.index(owner)
        uris = [f"s3://in/{owner}/{n}.jpg" for n in ids.tolist()]
        facts = live_albums.facts_of(ids, [uri.encode() for uri in uris])
        pack = Pictures(facts, [uri.encode() for uri in uris], live_albums.vectors(40, int(ids[0]))).compared()
        made += writer.add(key_of(owner), owner, 1, 0, "m", pack)
        rows += [
            {"image_id": i, "uri": uri, "source": "s3://in", "owner": owner}
            for i, uri in zip(ids.tolist(), uris, strict=True)
        ]
    live_albums.commit(f"{lake}/albums", [*made, *writer.close()])
    _append(f"{lake}/images", rows)
    albums = Albums(lake)
    for owner in OWNERS:
        assert len(albums.album(owner).pictures) == 40
        assert albums.requests <= 4
    gone = albums.album("zelda-77").pictures
    with acquire(lake, "test") as lease:
        forget(lake, Asked(frozenset({"zelda-77"})), lease)
    sought = [b"zelda-77", gone.vectors[3].tobytes()]
    client = s3.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=s3.bucket, Prefix="albums/lake/")
    keys = [item["Key"] for page in pages for item in page["Contents"]]
    assert keys
    for key in keys:
        data = client.get_object(Bucket=s3.bucket, Key=key)["Body"].read()
        assert not any(one in data or one in key.encode() for one in sought), key
    albums = Albums(lake)
    assert len(albums.album("anna").pictures) == 40
    assert sum(".parquet" in key and "_delta_log" not in key and "_forgotten" not in key for key in keys) == 2


def _append(table: str, rows: list[dict[str, Any]]) -> None:
    from deltalake import write_deltalake
    from pyspark.sql.pandas.types import to_arrow_schema

    schema = to_arrow_schema(TABLES["images"].schema)
    filled = [{name: row.get(name) for name in schema.names} for row in rows]
    options = delta_log.storage_options(table)
    write_deltalake(table, pa.Table.from_pylist(filled, schema), mode="append", storage_options=options)
