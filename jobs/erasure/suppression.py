"""Suppression: pictures that were forgotten stay forgotten, though an input still lists them.

Under LAKE/_forgotten lie a random salt and, in Parquet files, the salted SHA-256 of each URI: a later run can tell
that it lists such a URI, and nobody can read one."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from udfs.stores import objects, ranges, uris
from udfs.stores.s3_objects import Limits

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from jobs.lakes import Lake

FOLDER = "_forgotten"
MARK = "mark"
SCHEMA = StructType([StructField(MARK, StringType())])


def salt_of(lake: str) -> str:
    """The lake's salt, made where it has none yet. lake: a canonical URI. Raises StoreError."""
    place = uris.join(lake, FOLDER, "salt")
    objects.put_if_absent(place, secrets.token_hex(32).encode())
    return objects.read_small(place, 1024).decode()


def mark_of(salt: str, text: str) -> str:
    """A text as it is remembered: SHA-256 of the salt, a colon and the text, in hexadecimal."""
    return hashlib.sha256(f"{salt}:{text}".encode("utf-8", "surrogatepass")).hexdigest()


def remember(lake: str, marks: Collection[str]) -> None:
    """Adds marks of URIs that are to stay forgotten. Raises StoreError."""
    if marks:
        with objects.replacing(uris.join(_folder(lake), f"{secrets.token_hex(8)}.parquet")) as file:
            pq.write_table(pa.table({MARK: pa.array(sorted(marks), pa.string())}), file, compression="zstd")


def allow_again(lake: str) -> None:
    """Nothing is left out any more."""
    objects.delete_below(_folder(lake))


def without_forgotten(lake: Lake, listed: DataFrame) -> DataFrame | None:
    """The rows whose URI was not forgotten; None where the lake has forgotten nothing. listed: with a column uri."""
    if not objects.has_any(_folder(lake.uri)):
        return None
    marks = lake.engine.read_parquet(_folder(lake.uri), SCHEMA).distinct()
    salted = F.sha2(F.concat(F.lit(salt_of(lake.uri) + ":"), F.col("uri")), 256)
    return listed.withColumn(MARK, salted).join(marks, MARK, "left_anti").drop(MARK)


def forgotten_of(lake: str, given: Collection[str]) -> set[str]:
    """Which of some URIs were forgotten. Memory: all marks of the lake. Raises StoreError, ImageError."""
    folder = _folder(lake)
    names = [name for name in objects.list_names(folder) if name.endswith(".parquet")]
    if not names:
        return set()
    salt = salt_of(lake)
    marks = {mark_of(salt, uri): uri for uri in given}
    found: set[str] = set()
    for name in names:
        with ranges.open_file(uris.join(folder, name), None, Limits()) as (file, _):
            known = pq.read_table(file, columns=[MARK])[MARK]
        found |= marks.keys() & set(known.filter(pc.is_in(known, pa.array(list(marks), pa.string()))).to_pylist())
    return {marks[mark] for mark in found}


def _folder(lake: str) -> str:
    return uris.join(lake, FOLDER, "marks")
