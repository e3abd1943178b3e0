"""Catches an owner that is lost on the way from a path, a manifest or a shard, and pictures that come back though they
were forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs import catalog
from jobs.erasure import suppression
from jobs.errors import ConfigError
from jobs.inputs import layout, manifests, sources
from jobs.stage import Context
from tests.spark import small_lake
from tests.spark.test_catalog import parquet_of, tar_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def catalogued(
    context: Context, *given: Path, pattern: str | None = None, owner: str | None = None
) -> dict[str, object]:
    inputs = sources.check_inputs(context.config, [str(one) for one in given], pattern, (), owner)
    return catalog.catalog(context, inputs, manifests.read_manifests(context.lake.spark, inputs))


def owners_of(context: Context, folder: Path) -> dict[str, str | None]:
    rows = context.lake.read("images").select("uri", "owner").collect()
    return {row["uri"].removeprefix(f"{folder}/"): row["owner"] for row in rows}


def test_every_way_to_an_owner(spark: SparkSession, tmp_path: Path) -> None:
    """A pattern that takes another part of the path, one that takes away what a manifest or a layout has said, a change
    of owner that is missed or takes a picture for another one."""
    folder = tmp_path / "in"
    for name in ("users/u12_a/1.jpg", "users/u7/1/2.jpg", "others/3.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "users" / "anna.tar").write_bytes(tar_of({"5.jpg": b"5"}))
    (folder / "rows.parquet").write_bytes(parquet_of(image=[b"6", b"7"], owner=["eva", None]))
    told = tmp_path / "m.csv"
    told.write_text(f"uri,owner\n{folder}/others/3.jpg,max\n{folder}/users/u7/1/2.jpg,\n", encoding="utf-8")
    with small_lake.on_disk(spark, tmp_path / "lake", "catalog.max_removed_share=1") as context:
        catalogued(context, folder, owner="users/{owner}/**")
        assert owners_of(context, folder) == {
            "users/u12_a/1.jpg": "u12_a", "users/u7/1/2.jpg": "u7", "others/3.jpg": None,
            "users/anna.tar!/5.jpg": "anna.tar", "rows.parquet!/0": "eva", "rows.parquet!/1": None,
        }  # fmt: skip
        counts = catalogued(context, folder, pattern="{owner}/**", owner="users/u{owner}_*/**")
        assert (counts["relabelled"], counts["added"], counts["changed"], counts["removed"]) == (6, 0, 0, 0)
        assert owners_of(context, folder) == {
            "users/u12_a/1.jpg": "12", "users/u7/1/2.jpg": "users", "others/3.jpg": "others",
            "users/anna.tar!/5.jpg": "users", "rows.parquet!/0": "rows.parquet", "rows.parquet!/1": "rows.parquet",
        }  # fmt: skip
        catalogued(context, told)
        assert owners_of(context, folder) == {"others/3.jpg": "max", "users/u7/1/2.jpg": None}
        catalogued(context, told, owner="**/users/{owner}/**")
        assert owners_of(context, folder) == {"others/3.jpg": "max", "users/u7/1/2.jpg": "u7"}


@pytest.mark.parametrize("pattern", ["users/*", "{owner}/{owner}", "{label}/{owner}/*", "{}/*"])
def test_patterns_that_are_none(pattern: str) -> None:
    """A pattern that reads nothing, or something else."""
    with pytest.raises(ConfigError, match="--owner"):
        layout.owner_pattern(pattern)


def test_what_was_forgotten_stays_so(spark: SparkSession, tmp_path: Path) -> None:
    """A URI that is left out though another was forgotten, one that comes back, strange names that are hashed otherwise
    by the engine than by Python."""
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["a.jpg", "b'\u00e9 %.jpg", "\U0001f600.jpg", "c:d.jpg"]
    for name in names:
        (folder / name).write_bytes(b"x")
    with small_lake.on_disk(spark, tmp_path / "lake", "catalog.max_removed_share=1") as context:
        lake = context.lake.uri
        salt = suppression.salt_of(lake)
        assert salt == suppression.salt_of(lake)
        assert catalogued(context, folder)["notes"] == []
        for name in names[1:3]:
            suppression.remember(lake, {suppression.mark_of(salt, f"{folder}/{name}")})
        counts = catalogued(context, folder)
        assert set(owners_of(context, folder)) == {names[0], names[3]}
        assert "2 images are left out" in str(counts["notes"])
        assert counts["removed"] == 2
        suppression.allow_again(lake)
        assert catalogued(context, folder)["added"] == 2
