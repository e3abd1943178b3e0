"""Catches a pipeline that no longer finds what was drawn into the health sample, and a check that reads no lake."""

import argparse
from pathlib import Path

from pyspark.sql import SparkSession

from emr import health
from jobs.lakes import Lake
from jobs.tables import TABLES
from tests.e2e.lakes import ran


def test_the_sample_has_its_answers(tmp_path: Path, spark: SparkSession) -> None:
    """The whole sample through all stages; then a lake in which two rows were changed behind its back."""
    parser = argparse.ArgumentParser()
    health.add_arguments(parser)
    assert health.run(parser.parse_args(["--make", str(tmp_path / "sample")])) == 0
    expected = health.read_answers(str(tmp_path / "sample" / health.ANSWERS))
    ran(spark, "run", tmp_path / "sample" / health.IMAGES, "--lake", tmp_path / "lake")
    lake = Lake(spark, str(tmp_path / "lake"), "check")
    assert health.wrong_answers(expected, health.found_in(lake)) == []

    flat = sum(entry.kind == "flat" and entry.required for entry in expected.planted)
    empty = next(path for path, error in expected.failures.items() if error == "empty")
    issues = lake.read("issues").where("issue <> 'flat'").localCheckpoint()
    issues.select(*TABLES["issues"].schema.names).write.format("delta").mode("overwrite").save(lake.path("issues"))
    failures = lake.read("failures").where("error <> 'empty'").localCheckpoint()
    failures.write.format("delta").mode("overwrite").save(lake.path("failures"))
    assert health.wrong_answers(expected, health.found_in(lake)) == [
        f"flat: {flat} of {flat} not found",
        f"failures: {empty} is no failure, not empty",
    ]
