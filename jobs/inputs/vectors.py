"""Vectors that a user already has, read from Parquet or Delta instead of being computed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, FloatType, StringType, StructField, StructType

from jobs.engines.base import of
from jobs.engines.frames import map_batches
from jobs.errors import InputError
from jobs.inputs.sources import Source
from udfs.networks.models import Model
from udfs.stores import objects, uris
from udfs.stores.s3 import StoreError

READ = StructType([StructField("uri", StringType()), StructField("vector", ArrayType(FloatType()))])


def find_table(model: Model) -> Source:
    """Where the vectors of a card lie, a Parquet file or folder or a Delta table; needs no Spark.

    Raises InputError where there is nothing that can be read."""
    try:
        objects.check_access(model.weights)
        uri = model.weights.rstrip("/") or "/"
        return Source(uri, "delta" if objects.has_any(uris.join(uri, "_delta_log")) else "parquet")
    except StoreError as error:
        raise InputError(f"{model.key}: {error}") from error


def read_vectors(spark: SparkSession, model: Model) -> DataFrame:
    """The vectors of a card of format `vectors`, URIs in canonical form like those of a manifest: a relative one starts
    at the folder of the Parquet file, or at the Delta table.

    Returns READ, each uri once; nothing is known of the vectors themselves, see udfs.vectors.foreign.check_vector.
    Raises InputError: not readable, no column uri or vector, of another type than text and an array of float or double,
    a uri that is none or stands twice."""
    source = find_table(model)
    try:
        table = of(spark).read_source(source.uri, source.kind)
    except Exception as error:  # an engine's errors share no base class that says "cannot be read"
        told = str(error).splitlines()[0].strip(": ")[:200]
        raise InputError(f"{source.uri}: cannot be read as {source.kind} ({told})") from error
    types = {field.name: field.dataType for field in table.schema}
    for name in READ.names:
        if name not in types:
            raise InputError(f"{source.uri}: no column {name!r} (found: {', '.join(table.columns) or 'none'})")
    if not isinstance(types["uri"], StringType):
        raise InputError(f"{source.uri}: the column 'uri' must be text, is {types['uri'].simpleString()[:100]}")
    kind = types["vector"]
    if not isinstance(kind, ArrayType) or not isinstance(kind.elementType, FloatType | DoubleType):
        raise InputError(
            f"{source.uri}: the column 'vector' must be an array of float or double, is {kind.simpleString()[:100]}"
        )
    given = table.select(F.col("uri").alias("given"), F.col("vector").cast(ArrayType(FloatType())).alias("vector"))
    base = source.uri if source.kind == "delta" else source.uri.rpartition("/")[0] or "/"

    def canonical(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            texts = batch.column(0).to_pylist()
            found = pa.array([_canonical(text, base) for text in texts], pa.string())
            yield pa.RecordBatch.from_arrays([*batch.columns, found], names=["given", "vector", "uri"])

    schema = StructType([StructField("given", StringType()), READ["vector"], READ["uri"]])
    vectors = map_batches(given, canonical, schema)
    bad = vectors.where(F.col("uri").isNull()).select("given").head()
    if bad is not None:
        raise InputError(f"{source.uri}: {bad['given']!r} is not a path, a file: URI or an s3:// URI")
    twice = vectors.groupBy("uri").count().where("count > 1").orderBy("uri").head()
    if twice is not None:
        shown = json.dumps(twice["uri"], ensure_ascii=False)
        raise InputError(f"{source.uri}: {shown} has {twice['count']} vectors: give each image one")
    return vectors.select(*READ.names)


def _canonical(text: str | None, base: str) -> str | None:
    try:
        return uris.canonical(text, base=base) if text else None
    except ValueError:
        return None
