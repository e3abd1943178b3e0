"""The tables open with readers that know nothing of Spark."""

import importlib.util
import math
from pathlib import Path

import duckdb
import numpy as np
import pytest
from pyspark.sql import SparkSession

from jobs.tables import TABLES
from tests.e2e import lakes
from tests.e2e.conftest import Labelled


@pytest.fixture(scope="module")
def counts(labelled: Labelled, spark: SparkSession) -> dict[str, int]:
    """Rows of every table, as Spark counts them."""
    found = {name: spark.read.format("delta").load(f"{labelled.lake}/{name}").count() for name in TABLES}
    # Its classes have too few images to be judged. Its images have no owner, and one label each.
    assert {name for name, count in found.items() if not count} == {
        "labels", "label_sets", "confusions", "look_alikes", "ratings", "reviews", "albums", "detections",
    }  # fmt: skip
    return found


def test_delta_rs(labelled: Labelled, counts: dict[str, int]) -> None:
    """Catches a table feature that delta-rs cannot read, or reads wrong (deletion vectors)."""
    for name, count in counts.items():
        frame = lakes.table(labelled.lake, name).to_pandas()
        assert len(frame) == count, name
        assert list(frame.columns) == TABLES[name].schema.names
    vectors = np.stack(lakes.table(labelled.lake, "embeddings").to_pandas()["vector"].to_list())
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-4)  # they have the precision of float16


def test_duckdb(labelled: Labelled, counts: dict[str, int]) -> None:
    """Catches types that DuckDB cannot join or compare. It reads the files that delta-rs names, so this says nothing
    of DuckDB's own Delta reader: for that, see test_duckdb_delta."""
    with duckdb.connect() as database:
        for name in TABLES:
            database.register(name, lakes.table(labelled.lake, name).to_pyarrow_dataset())
        for name, count in counts.items():
            assert database.execute(f"SELECT count(*) FROM {name}").fetchone() == (count,)
        query = """
            SELECT count(*), min(list_cosine_similarity(a.vector, b.vector) - n.cosine),
                   max(list_cosine_similarity(a.vector, b.vector) - n.cosine)
            FROM neighbours n JOIN embeddings a USING (image_id) JOIN embeddings b ON b.image_id = n.neighbour_id
            """
        row = database.execute(query).fetchone()
        assert row is not None
        assert row[0] == counts["neighbours"]
        assert math.isclose(row[1], 0, abs_tol=1e-4)
        assert math.isclose(row[2], 0, abs_tol=1e-4)


def test_duckdb_delta(labelled: Labelled, counts: dict[str, int]) -> None:
    """Catches a table feature that DuckDB's own Delta reader cannot read. Skipped where its extension is not there:
    DuckDB downloads it, and for version 1.4.4 on Linux the package duckdb-ext-delta carries it."""
    with duckdb.connect() as database:
        try:
            database.execute(f"LOAD '{packaged_extension() or 'delta'}'")
        except duckdb.Error as error:
            pytest.skip(f"DuckDB's Delta extension is not installed: {str(error).splitlines()[0]}")
        for name, count in counts.items():
            found = database.execute("SELECT count(*) FROM delta_scan(?)", [str(labelled.lake / name)]).fetchone()
            assert found == (count,), name


def packaged_extension() -> Path | None:
    """The extension in the package duckdb-ext-delta, if that is made for this DuckDB."""
    package = importlib.util.find_spec("duckdb_ext")
    places = package.submodule_search_locations if package else None
    pattern = f"extensions/v{duckdb.__version__}/*/delta.duckdb_extension"
    return next((file for place in places or () for file in sorted(Path(place).glob(pattern))), None)


def test_oldest_protocol(labelled: Labelled) -> None:
    """Catches a reader or writer feature in the protocol of a table that older readers refuse."""
    for name in TABLES:
        protocol = lakes.table(labelled.lake, name).protocol()
        assert protocol.min_reader_version == 1, name
        assert not protocol.reader_features
