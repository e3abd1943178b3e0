"""GPUs for tasks, on a cluster of one executor that says it has two. No GPU is needed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.engines.spark_versions import RELEASE
from tests.conftest import spark_only
from tests.e2e import lakes
from tests.e2e.lakes import ROOT

PROGRAM = """
import json, sys
from pyspark.sql import SparkSession
from jobs.embed import choose_runtime
from jobs.engines.spark import SparkEngine
from jobs.errors import ConfigError

found, amount = sys.argv[1:]
builder = SparkSession.builder.master("local-cluster[1,2,1024]").config("spark.ui.enabled", "false")
for who in ("worker", "executor"):
    builder.config(f"spark.{who}.resource.gpu.amount", "2")
    builder.config(f"spark.{who}.resource.gpu.discoveryScript", found)
if amount:
    builder.config("spark.task.resource.gpu.amount", amount)
spark = builder.config("spark.executor.memory", "512m").getOrCreate()

def gpus(batches):
    import pyarrow as pa
    from pyspark import TaskContext
    given = TaskContext.get().resources().get("gpu")
    yield pa.RecordBatch.from_pydict({"gpu": [",".join(given.addresses) if given else "none"]})

def tasks(**more):
    rows = spark.range(8).repartition(4).mapInArrow(gpus, "gpu string", **more).collect()
    return sorted({row["gpu"] for row in rows})

engine = SparkEngine(spark)
told = {"runtime": choose_runtime(engine, "auto"), "others": tasks()}
try:
    profile = engine.gpu_resources(1.0)
    told["embed"] = tasks(profile=profile) if profile else tasks()
except ConfigError as error:
    told["refused"] = str(error)
print(json.dumps(told))
"""


def told(folder: Path, amount: str) -> dict[str, Any]:
    """What the program says. amount: spark.task.resource.gpu.amount, or nothing."""
    script = folder / "gpus.sh"
    script.write_text('#!/bin/sh\necho \'{"name": "gpu", "addresses": ["0", "1"]}\'\n')
    script.chmod(0o755)
    (folder / "program.py").write_text(PROGRAM)
    ended = subprocess.run(
        [sys.executable, folder / "program.py", script, amount],
        env=lakes.clean_environment(PYTHONPATH=str(ROOT), PYSPARK_PYTHON=sys.executable),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    return found


@pytest.mark.slow
@spark_only
@pytest.mark.skipif(RELEASE == "3.5", reason="Spark 3.5 has no resources of one stage for mapInArrow")
def test_tasks_of_embed_get_a_gpu_each_and_others_none(tmp_path: Path) -> None:
    """Tasks that all take the first GPU, or stages without need of one that wait for it."""
    assert told(tmp_path, "") == {"runtime": "torch", "embed": ["0", "1"], "others": ["none"]}


@pytest.mark.slow
@spark_only
@pytest.mark.skipif(RELEASE != "3.5", reason="later versions have resources of one stage")
def test_spark_3_asks_for_the_setting(tmp_path: Path) -> None:
    """An embed stage that runs without the GPUs that its executors have."""
    found = told(tmp_path, "")
    assert "set spark.task.resource.gpu.amount" in found.pop("refused")
    assert found == {"runtime": "torch", "others": ["none"]}


@pytest.mark.slow
@spark_only
def test_the_cluster_gives_gpus_to_tasks(tmp_path: Path) -> None:
    """The settings of `emr submit`, on both versions: tasks that get no GPU or share one, a profile on top of them."""
    assert told(tmp_path, "1") == {"runtime": "torch", "embed": ["0", "1"], "others": ["0", "1"]}
