"""The embed stage's own resources, on a cluster of one executor that says it has two GPUs. No GPU is needed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import lakes
from tests.e2e.lakes import ROOT

PROGRAM = """
import json, sys
from pyspark.sql import SparkSession
from jobs.embed import choose_runtime, gpu_profile

found = sys.argv[1]
builder = SparkSession.builder.master("local-cluster[1,2,1024]").config("spark.ui.enabled", "false")
for who in ("worker", "executor"):
    builder.config(f"spark.{who}.resource.gpu.amount", "2")
    builder.config(f"spark.{who}.resource.gpu.discoveryScript", found)
spark = builder.config("spark.executor.memory", "512m").getOrCreate()

def gpus(batches):
    import pyarrow as pa
    from pyspark import TaskContext
    given = TaskContext.get().resources().get("gpu")
    yield pa.RecordBatch.from_pydict({"gpu": [",".join(given.addresses) if given else "none"]})

def tasks(**more):
    rows = spark.range(8).repartition(4).mapInArrow(gpus, "gpu string", **more).collect()
    return sorted({row["gpu"] for row in rows})

print(json.dumps({
    "runtime": choose_runtime(spark, "auto"),
    "embed": tasks(profile=gpu_profile(spark, "torch", 1.0)),
    "others": tasks(),
    "on a CPU": gpu_profile(spark, "openvino", 1.0) is None,
}))
"""


@pytest.mark.slow
def test_tasks_of_embed_get_a_gpu_each_and_others_none(tmp_path: Path) -> None:
    """Tasks that all take the first GPU, or stages without need of one that wait for it."""
    script = tmp_path / "gpus.sh"
    script.write_text('#!/bin/sh\necho \'{"name": "gpu", "addresses": ["0", "1"]}\'\n')
    script.chmod(0o755)
    (tmp_path / "program.py").write_text(PROGRAM)
    ended = subprocess.run(
        [sys.executable, tmp_path / "program.py", script],
        env=lakes.clean_environment(PYTHONPATH=str(ROOT), PYSPARK_PYTHON=sys.executable),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    told = json.loads(ended.stdout.strip().splitlines()[-1])
    assert told == {"runtime": "torch", "embed": ["0", "1"], "others": ["none"], "on a CPU": True}
