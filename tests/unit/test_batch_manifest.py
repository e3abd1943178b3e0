"""Catches a key that AWS would read as another, and a move that is called a saving and is none."""

import dataclasses
from pathlib import Path
from urllib.parse import unquote_plus

import pytest

from jobs.cleaning import batch_manifest, prices
from jobs.cleaning.batch_manifest import Bucket
from jobs.config import conf_text
from jobs.errors import ConfigError


def priced() -> prices.Prices:
    """Prices that are easily reckoned with."""
    cold = prices.StorageClass(0.01, 0.01, 100_000, 0, 0, 30)
    ice = prices.StorageClass(0.001, 0.05, 0, 30_000, 10_000, 180)
    real = prices.load()
    moves = prices.Moves(0.25, 1.0, 0.005, 0.01, {"COLD": cold, "ICE": ice})
    return dataclasses.replace(real, s3=dataclasses.replace(real.s3, storage_usd_per_gb_month=0.02), s3_move=moves)


@pytest.mark.parametrize("key", ["a b+c.jpg", 'q"u,o\n.jpg', "é/猫.jpg", "100%41.jpg", "/lead//double", "~._-"])
def test_a_key_comes_back(key: str) -> None:
    """A plus sign read as a space, a comma as the end of the key, a percent sign as the start of an escape."""
    line = batch_manifest.line(f"s3://bucket/{key}")
    bucket, comma, encoded = line.removesuffix("\n").partition(",")
    assert (bucket, comma, unquote_plus(encoded)) == ("bucket", ",", key)
    assert not set(encoded) & set(' ",+\n')


def test_one_file_for_each_bucket() -> None:
    """Objects of two buckets in one manifest, which a job refuses."""
    one, two = (Bucket(name, 1, 1, {}, 0) for name in ("one", "two"))
    assert batch_manifest.places("/a/b.csv", [one]) == {"one": "/a/b.csv"}
    assert batch_manifest.places("/a/b.csv", [one, two]) == {"one": "/a/b.one.csv", "two": "/a/b.two.csv"}
    assert batch_manifest.places("/a.d/b", [one, two]) == {"one": "/a.d/b.one.csv", "two": "/a.d/b.two.csv"}


def test_what_moving_saves() -> None:
    """Small objects that are billed as larger ones, bytes kept beside each, and requests that cost more than is saved;
    worked out by hand."""
    of = priced()
    # 2 million objects: 10^12 bytes of large ones, and half of them 10,000 bytes each.
    bucket = Bucket("b", 2_000_000, 1_010_000_000_000, {"COLD": 1_100_000_000_000, "ICE": 1_010_000_000_000}, 0)
    cold = batch_manifest.move([bucket], "COLD", of)
    assert cold.usd_saved_per_month == pytest.approx(1010 * 0.02 - 1100 * 0.01)
    assert cold.usd_once == pytest.approx(0.25 + 2 * 1.0 + 2000 * 0.01)
    ice = batch_manifest.move([bucket], "ICE", of)
    assert ice.usd_saved_per_month == pytest.approx(1010 * 0.02 - (1010 + 60) * 0.001 - 20 * 0.02)
    tags = batch_manifest.tagging([bucket, bucket], of)
    assert tags.usd_once == pytest.approx(2 * 0.25 + 4 * 1.0 + 4000 * 0.005)
    assert -tags.usd_saved_per_month == pytest.approx(4.0)
    small = Bucket("b", 1000, 1_000_000, {"COLD": 100_000_000, "ICE": 1_000_000}, 0)
    said = "\n".join(batch_manifest.told([small], 0, of))
    assert "moving them to COLD saves nothing" in said
    assert "moving them to ICE saves nothing" in said
    said = "\n".join(batch_manifest.told([bucket], 3, of))
    assert "3 removed images lie in shards" in said
    assert "kept for 180 days at least" in said


def test_prices(tmp_path: Path) -> None:
    """Prices of the package that cannot be read, and a slip in them that is taken for nothing."""
    assert "GLACIER_IR" in prices.load().s3_move.classes
    bad = (
        conf_text("prices.yaml")
        .replace("batch_usd_per_job: 0.25", "batch_usd_per_job: -1")
        .replace("min_days: 30", "min_days: soon")
    )
    (tmp_path / "prices.yaml").write_text(bad)
    with pytest.raises(ConfigError) as caught:
        prices.load(tmp_path / "prices.yaml")
    assert "s3_move.classes.STANDARD_IA.min_days must be a number, got 'soon'" in str(caught.value)
    assert "s3_move.batch_usd_per_job must be at least 0, got -1" in str(caught.value)
