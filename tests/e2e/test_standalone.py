"""What `imagesieve emr package` builds, on a cluster of real processes that see nothing else of imagesieve."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emr import command
from emr.packages import manifest
from jobs.demo import judge
from jobs.demo.plant import plant
from jobs.demo.running import FALSE_AT_MOST, FOUND_AT_LEAST, LAYOUT
from jobs.engines.spark_versions import JARS, RELEASE
from tests import standalone
from tests.conftest import spark_only
from tests.e2e import images, lakes
from tests.e2e.lakes import ROOT

pytestmark = [
    pytest.mark.slow,
    spark_only,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the environment is of Python 3.11"),
]

# What a process imports, from where, and what it cannot import: on the driver and on executors.
PROBE = """
import json
from pyspark.sql import SparkSession

def look(_):
    import importlib, importlib.util, os, sys
    names = ("udfs.arrow", "numpy", "pandas", "pyarrow", "scipy", "cv2", "openvino", "obstore", "PIL", "simplejpeg",
             "pi_heif", "jinja2", "yaml", "rich", "boto3", "delta", "graphframes", "pyspark", "py4j")
    found = {name: os.path.abspath(importlib.import_module(name).__file__) for name in names}
    missing = [name for name in ("torch", "timm", "tests", "pytest") if importlib.util.find_spec(name) is None]
    return [(sys.prefix, sys.version.split()[0], found, missing)]

spark = SparkSession.builder.getOrCreate().sparkContext
workers = spark.parallelize(range(8), 8).mapPartitions(look).collect()
print(json.dumps({"driver": look(()), "executors": workers}))
"""
# The stage with GPUs, and one without; what udfs.arrow makes of a task's GPU.
GPUS = """
import json, os, sys, time
from pathlib import Path
from typing import Any
from pyspark.sql import SparkSession
from jobs.embed import choose_runtime
from jobs.engines.spark import SparkEngine
from udfs import arrow; from udfs.networks import models, preparation; from udfs.stores import fetch

spark = SparkSession.builder.getOrCreate()
engine = SparkEngine(spark)
make = arrow.task_maker(preparation.Prepared("m@1", "torch", (Path("none"),)), models.find(models.DEFAULT),
                        fetch.Limits(1, 1.0, 1), 1, 1, engine.workers(()))

def gpus(batches):
    import pyarrow as pa
    from pyspark import TaskContext
    given = TaskContext.get().resources().get("gpu")
    device = make().device if given else None
    time.sleep(1)
    yield pa.RecordBatch.from_pylist([{"gpu": ",".join(given.addresses) if given else "none", "device": str(device),
                                       "at": os.getcwd()}])

def tasks(**more):
    rows = spark.range(8).repartition(4).mapInArrow(gpus, "gpu string, device string, at string", **more).collect()
    return sorted({tuple(row) for row in rows})

kind = choose_runtime(engine, "auto")
profile = engine.gpu_resources(1.0)
told = {"runtime": kind, "embed": tasks(**({"profile": profile} if profile is not None else {}))}
if profile is not None:
    told["others"] = tasks()
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Node:
    """A driver's machine as the bootstrap leaves it."""

    package: manifest.Package
    folder: Path
    cluster: standalone.Cluster

    @property
    def python(self) -> str:
        return str(self.folder / "environment" / "bin" / "python")

    @property
    def options(self) -> tuple[str, ...]:
        own = self.package.environment("cpu")
        root = self.folder / "package"
        return (
            "--archives", f"{root / own.file}#environment", "--py-files", str(root / "imagesieve.zip"),
            "--jars", str(root / own.graphframes), "--packages", JARS[RELEASE].delta,
        )  # fmt: skip

    def submit(self, script: Path, *argv: str | Path, conf: dict[str, str] | None = None) -> lakes.Ended:
        both = {
            "spark.pyspark.python": "./environment/bin/python",
            "spark.pyspark.driver.python": self.python,
            "spark.cores.max": "2",  # one executor on each worker, as they are spread out
        }
        env = {"IMAGESIEVE_CACHE": str(self.folder / "models")}
        return self.cluster.submit(
            script, *argv, cwd=self.folder, conf={**both, **(conf or {})}, env=env, options=self.options
        )


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The package of this checkout, unpacked for the driver; a cluster of one worker of a core, and one with GPUs."""
    folder = tmp_path_factory.mktemp("node")
    python = str(Path(sys.base_prefix) / "bin" / "python3.11")
    argv = ["package", "--kind", "cpu", "--spark", RELEASE, "--node-python", python, "--out", str(folder / "package")]
    assert command.main(argv) == 0
    package = manifest.read(str(folder / "package"))
    own = package.environment("cpu")
    for archive, name in ((own.file, "environment"), (own.models, "models")):
        (folder / name).mkdir()
        subprocess.run(["tar", "-xzf", folder / "package" / archive, "-C", folder / name], check=True)
    with standalone.cluster(folder / "cluster") as cluster:
        cluster.start_worker()
        cluster.start_worker(cores=2, gpus=2)
        yield Node(package, folder, cluster)


def last_line(ended: lakes.Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.err[-3000:]
    told: dict[str, Any] = json.loads(ended.out.strip().splitlines()[-1])
    return told


def test_only_the_package_is_imported(node: Node) -> None:
    """Catches a package that lacks something which this machine has: a cluster's nodes have it nowhere."""
    script = node.folder / "probe.py"
    script.write_text(PROBE)
    told = last_line(node.submit(script))
    work = [str(worker.folder) for worker in node.cluster.workers]
    assert len(told["executors"]) == 8
    for side, roots in (("driver", [str(node.folder), "/tmp/spark-"]), ("executors", work)):
        for prefix, version, found, missing in told[side]:
            assert str(version).startswith("3.11.")
            assert any(str(prefix).startswith(root) for root in roots)
            assert missing == ["torch", "timm", "tests", "pytest"]
            assert isinstance(found, dict)
            for name, file in found.items():
                if name in ("pyspark", "py4j"):
                    assert file.startswith(f"{standalone.HOME}/python/lib/"), (name, file)
                else:
                    assert any(file.startswith(root) for root in roots), (name, file)
                    assert not file.startswith(str(ROOT)), (name, file)
            assert "imagesieve.zip" in found["udfs.arrow"]
            assert "/environment/" in found["numpy"]


def test_the_demo(node: Node, tmp_path: Path) -> None:
    """Catches anything of the suite that the package lacks, and results that depend on the machine they come from."""
    truth = plant(tmp_path / "images")
    lake = tmp_path / "lake"
    ended = node.submit(
        node.folder / "package" / "entry.py", "run", tmp_path / "images", "--lake", lake, "--layout", LAYOUT,
        "--set", "spark.shuffle_partitions=4",
    )  # fmt: skip
    assert ended.code == 0, ended.err[-3000:]
    names = {row["image_id"]: row["uri"] for row in lakes.rows(lake, "images")}
    found = [
        (names[row["image_id"]], row["issue"], names.get(row["evidence_id"])) for row in lakes.rows(lake, "issues")
    ]
    rows = judge.judge(truth, found)
    total = judge.total(rows)
    assert total.found_share >= FOUND_AT_LEAST, judge.format_table(rows)
    assert total.false_share <= FALSE_AT_MOST, judge.format_table(rows)
    assert (lake / "report" / "index.html").is_file()


def test_gpus_go_to_the_stage_that_asks(node: Node) -> None:
    """Catches tasks that all take the first GPU, that run where there is none, or that other stages wait for."""
    script = node.folder / "gpus.py"
    script.write_text(GPUS)
    conf = {
        "spark.executor.cores": "2",
        "spark.executor.resource.gpu.amount": "2",
        "spark.executor.resource.gpu.discoveryScript": str(node.cluster.workers[1].folder.parent / "gpus.sh"),
    }
    if RELEASE == "3.5":  # whose stages have no resources of their own: the step of embed asks
        conf["spark.task.resource.gpu.amount"] = "1"
    told = last_line(node.submit(script, conf=conf))
    assert told["runtime"] == "torch"
    assert {(gpu, device) for gpu, device, _ in told["embed"]} == {("0", "0"), ("1", "1")}
    if RELEASE != "3.5":
        assert {gpu for gpu, _, _ in told["others"]} == {"none"}
    places = {str(at) for row in (*told["embed"], *told.get("others", [])) for at in row[2:]}
    assert places
    assert all(at.startswith(str(node.cluster.workers[1].folder)) for at in places), places


def test_another_environment_is_named(node: Node, tmp_path: Path) -> None:
    """Catches a start-up check that lets executors run other packages than the driver: vectors would differ."""
    folder = images.write(tmp_path / "in", {"only.jpg": images.jpeg(images.picture(1))})
    site = tmp_path / "other" / "numpy-1.0.dist-info"
    site.mkdir(parents=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n")
    ended = node.submit(
        node.folder / "package" / "entry.py", "run", folder, "--lake", tmp_path / "lake",
        conf={"spark.executorEnv.PYTHONPATH": str(site.parent)},
    )  # fmt: skip
    assert ended.code == 7, ended.out[-3000:] + ended.err[-3000:]
    assert "imagesieve: executors have numpy 1.0 (driver: " in ended.out  # where spark-submit sends it
    assert not (tmp_path / "lake").exists()
