"""What all tests share: one session of an engine, started when the first test asks for it.

IMAGESIEVE_TEST_ENGINE names the engine: sail, which is the default where it is installed, or spark."""

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import s3_server

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ENGINE = os.environ.get("IMAGESIEVE_TEST_ENGINE") or ("sail" if importlib.util.find_spec("pysail") else "spark")
# What is of Spark's own: its plans, GraphFrames, profiles of stages.
spark_only = pytest.mark.skipif(ENGINE != "spark", reason="is of Spark: make test-spark")
sail_only = pytest.mark.skipif(ENGINE != "sail", reason="is of the embedded engine: make test")
MASTER = ["--set", "spark.master=local[2]"] if ENGINE == "spark" else []  # of a process of its own
FEW_PARTITIONS = ["spark.shuffle_partitions=2", "spark.master=local[2]"] if ENGINE == "spark" else []

# A shell that starts something in the background has Ctrl-C ignored there, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def s3() -> Iterator[s3_server.S3Server]:
    """An S3 server with an empty bucket `lake`, which the environment of this process and its children points at."""
    with s3_server.serve("lake") as server:
        os.environ.update(server.env)
        yield server


@pytest.fixture(scope="session")
def spark(s3: s3_server.S3Server) -> "Iterator[SparkSession]":
    """The session that a run would open, S3 tables included; that of Spark has two shuffle partitions."""
    from jobs import config
    from jobs.engines.opening import open_engine

    settings = config.load((), [*FEW_PARTITIONS, f"spark.engine={ENGINE}"])
    with open_engine(settings, uses_s3=True) as engine:
        yield engine.spark


@pytest.fixture(scope="session")
def photos() -> Path:
    """A folder of photographs named by IMAGESIEVE_PHOTOS; the test is skipped without one."""
    given = os.environ.get("IMAGESIEVE_PHOTOS")
    if not given:
        pytest.skip("IMAGESIEVE_PHOTOS names no folder of photographs")
    return Path(given)
