"""Catches a conf/clusters.yaml that is read wrongly, or whose faults come one at a time."""

from pathlib import Path

import pytest
import yaml

from emr.costs import hardware
from emr.costs.hardware import Executor, Instance
from jobs.config import conf_text
from jobs.errors import ConfigError


@pytest.mark.parametrize(
    ("instance", "fit"),
    [
        (Instance("cores", 16, 65536), 4),
        (Instance("memory", 16, 4096 + 3 * 6144), 3),
        (Instance("small", 2, 65536), 0),
        (Instance("one gpu", 16, 65536, gpus=1), 1),
        (Instance("gpus", 8, 65536, gpus=4), 2),
    ],
)
def test_units(instance: Instance, fit: int) -> None:
    """Catches weights by cores alone, by memory alone, and two executors that share a GPU."""
    assert hardware.units(instance, Executor(4, 2048, 4096), 4096) == fit


def test_all_faults_at_once(tmp_path: Path) -> None:
    """Catches a file that has to be corrected line by line, and misspelt keys that are ignored."""
    given = yaml.safe_load(conf_text("clusters.yaml"))
    given["instances"]["g6.xlarge"]["vcpu"] = given["instances"]["g6.xlarge"].pop("vcpus")
    given["kinds"]["cpu"]["task"] = ["c99.large"]
    given["kinds"]["gpu"]["executor"]["cores"] = "four"
    given["spark"]["spark.task.maxFailures"] = 8
    del given["limits"]["idle_s"]
    file = tmp_path / "clusters.yaml"
    file.write_text(yaml.safe_dump(given))
    with pytest.raises(ConfigError) as caught:
        hardware.load(file)
    faults = ("unknown key instances.g6.xlarge.vcpu", "c99.large", "kinds.gpu.executor.cores", "spark.task.maxFailures")
    for told in (*faults, "limits.idle_s is missing"):
        assert told in str(caught.value), told


def test_an_executor_that_fits_nowhere(tmp_path: Path) -> None:
    """Catches a fleet that could never run a task."""
    given = yaml.safe_load(conf_text("clusters.yaml"))
    given["kinds"]["gpu"]["executor"]["heap_mb"] = 60_000
    file = tmp_path / "clusters.yaml"
    file.write_text(yaml.safe_dump(given))
    with pytest.raises(ConfigError, match=r"no executor fits into g6\.xlarge"):
        hardware.load(file)
