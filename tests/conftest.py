"""What all tests share: one Spark session with few partitions, started when the first test asks for it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import s3_server

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FEW_PARTITIONS = ["spark.shuffle_partitions=2", "spark.master=local[2]"]


@pytest.fixture(scope="session")
def s3() -> Iterator[s3_server.S3Server]:
    """An S3 server with an empty bucket `lake`, which the environment of this process and its children points at."""
    with s3_server.serve("lake") as server:
        os.environ.update(server.env)
        yield server


@pytest.fixture(scope="session")
def spark(s3: s3_server.S3Server) -> "Iterator[SparkSession]":
    """The session that a run would open, with two shuffle partitions, S3 tables included."""
    from jobs import config, session

    opened = session.open_session(config.load((), FEW_PARTITIONS), uses_s3=True)
    yield opened
    opened.stop()


@pytest.fixture(scope="session")
def photos() -> Path:
    """A folder of photographs named by IMAGESIEVE_PHOTOS; the test is skipped without one."""
    given = os.environ.get("IMAGESIEVE_PHOTOS")
    if not given:
        pytest.skip("IMAGESIEVE_PHOTOS names no folder of photographs")
    return Path(given)
