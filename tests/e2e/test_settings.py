"""Settings of speed and the order of the input decide nothing."""

import csv
import random
from pathlib import Path

from pyspark.sql import SparkSession

from tests.e2e import lakes
from tests.e2e.conftest import Labelled

PARTITIONS, BATCH = "spark.sql.shuffle.partitions", "spark.sql.execution.arrow.maxRecordsPerBatch"


def test_results_do_not_depend_on_them(labelled: Labelled, spark: SparkSession, tmp_path: Path) -> None:
    """Catches a result that hangs on the number of partitions, the batch, the task, the commit, or the order in
    which images are named: against a listing with few partitions, a shuffled manifest with many."""
    files = [path for path in labelled.folder.rglob("*") if path.is_file() and path.suffix != ".txt"]
    random.Random(7).shuffle(files)
    manifest = tmp_path / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as sink:
        writer = csv.writer(sink)
        writer.writerow(["label", "uri", "split"])
        for path in files:
            split, label, _ = path.relative_to(labelled.folder).parts
            writer.writerow([label, path, split])
    kept = {name: spark.conf.get(name) for name in (PARTITIONS, BATCH)}
    settings = ("embed.batch=3", "embed.images_per_task=2", "embed.images_per_commit=12", "embed.fetch_threads=2",
                "clusters.max_edges_one_process=20")  # fmt: skip
    try:
        spark.conf.set(PARTITIONS, "7")
        spark.conf.set(BATCH, "3")
        overrides = [word for setting in settings for word in ("--set", setting)]
        lakes.ran(spark, "run", manifest, "--lake", tmp_path / "lake", *overrides)
    finally:
        for name, value in kept.items():
            spark.conf.set(name, str(value))
    found = lakes.snapshot(tmp_path / "lake", lakes.relative_to(labelled.folder))
    lakes.assert_same(labelled.snapshot, found)
