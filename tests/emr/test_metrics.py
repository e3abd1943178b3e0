"""Catches metrics that are wrong, missing or refused by CloudWatch, and a CloudWatch that stops or slows a run."""

import datetime
import os
import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobs import __version__, config, metrics
from jobs.errors import ContractError
from jobs.lakes import Lake
from jobs.progress import Reporter
from jobs.stage import Context, Counts, History, Stage
from tests import s3_server

COUNTS = {"in": 200, "out": 190, "failed": 10, "read": 50, "recall_at_k": 0.97, "pair_recall": 0.999}


@pytest.fixture(scope="module")
def server() -> Iterator[s3_server.S3Server]:
    """A moto server of this module's own: metrics of other tests would be counted, too."""
    with s3_server.serve("unused") as started:
        yield started


@pytest.fixture
def cloudwatch(server: s3_server.S3Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A CloudWatch client of the server, at which the environment points as well."""
    import boto3

    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return boto3.session.Session().client("cloudwatch")


def settings(namespace: str | None, usd_per_hour: float | None = 36.0) -> config.Metrics:
    return config.Metrics(namespace, usd_per_hour)


def values(cloudwatch: Any, namespace: str, dimensions: dict[str, str]) -> dict[str, float]:
    """Of each metric with just these dimensions its value: moto also adds up those with more, so not the sum."""
    listed = cloudwatch.list_metrics(Namespace=namespace)["Metrics"]
    wanted = [{"Name": name, "Value": value} for name, value in dimensions.items()]
    now = datetime.datetime.now(datetime.UTC)
    found = {}
    for metric in listed:
        if sorted(map(str, metric["Dimensions"])) != sorted(map(str, wanted)):
            continue
        points = cloudwatch.get_metric_statistics(
            Namespace=namespace,
            MetricName=metric["MetricName"],
            Dimensions=wanted,
            StartTime=now - datetime.timedelta(hours=1),
            EndTime=now + datetime.timedelta(hours=1),
            Period=7200,
            Statistics=["Maximum"],
        )["Datapoints"]
        found[metric["MetricName"]] = max(point["Maximum"] for point in points)
    return found


@pytest.mark.parametrize("dimensions", [{"stage": "embed", "lake": "s3://b/lake"}, {"stage": "embed"}, {}])
def test_a_stage_publishes(cloudwatch: Any, dimensions: dict[str, str]) -> None:
    """A metric, a unit or a set of dimensions that an alarm looks for and that is not there."""
    namespace = f"ends-well-{len(dimensions)}"
    said: list[str] = []
    with metrics.published(settings(namespace), "embed", "s3://b/lake", said.append) as counts:
        counts.update(COUNTS)
        time.sleep(0.2)
    assert said == []
    found = values(cloudwatch, namespace, dimensions)
    assert set(found) == {
        "images", "failures", "failed_stages", "images_per_second", "recall", "pair_recall", "stage_seconds",
        "estimated_cost_usd",
    }  # fmt: skip
    assert (found["images"], found["failures"], found["failed_stages"], found["recall"]) == (200, 10, 0, 0.97)
    assert 0.2 <= found["stage_seconds"] < 5
    assert found["images_per_second"] == pytest.approx(50 / found["stage_seconds"])  # what was read, not what is known
    assert found["estimated_cost_usd"] == pytest.approx(found["stage_seconds"] / 100)  # 36 dollars an hour


def test_a_failed_stage_publishes(cloudwatch: Any) -> None:
    """A stage that fails in silence, and metrics that swallow its error."""
    with pytest.raises(KeyError), metrics.published(settings("fails"), "issues", "/lake", print):
        raise KeyError
    found = values(cloudwatch, "fails", {"stage": "issues"})
    assert found.pop("failed_stages") == 1
    assert set(found) == {"stage_seconds", "estimated_cost_usd"}


def test_ctrl_c_is_no_failure(cloudwatch: Any) -> None:
    """An alarm because somebody stopped a run."""
    with pytest.raises(KeyboardInterrupt), metrics.published(settings("stopped"), "issues", "/lake", print):
        raise KeyboardInterrupt
    assert values(cloudwatch, "stopped", {}) == {}


def test_a_long_stage_says_that_it_runs(cloudwatch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that hangs: nothing could raise an alarm on what is published at its end only."""
    monkeypatch.setattr(metrics, "HEARTBEAT_S", 0.1)
    with metrics.published(settings("long", None), "embed", "/lake", print) as counts:
        ends = time.monotonic() + 30
        while "running_seconds" not in (told := values(cloudwatch, "long", {"stage": "embed"})):
            assert time.monotonic() < ends
            time.sleep(0.1)
        assert told["running_seconds"] > 0
        counts.update(COUNTS)
    assert "estimated_cost_usd" not in values(cloudwatch, "long", {})


def test_nothing_is_sent_without_a_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop that talks to AWS."""
    monkeypatch.setattr(metrics, "_client", lambda: pytest.fail("a client was made"))
    assert config.load().metrics.namespace is None
    with metrics.published(config.load().metrics, "embed", "/lake", pytest.fail) as counts:
        counts.update(COUNTS)


@pytest.mark.parametrize(
    "lake",
    [
        "s3://b/" + "x" * 5000,
        "/data/ä ö/лэйк",
        ":colon first",
        " ",
        "/a\nb\tc",
        "/lone \udcff surrogate",
        "s3://b/plain",
    ],
)
def test_any_lake_makes_a_dimension(cloudwatch: Any, lake: str) -> None:
    """A name that CloudWatch refuses, so that all metrics of its runs are lost."""
    said: list[str] = []
    with metrics.published(settings("names"), "embed", lake, said.append) as counts:
        counts.update(COUNTS)
    assert said == []
    clean = metrics.clean_dimension(lake)
    assert 0 < len(clean) <= metrics.MAX_VALUE
    assert clean.isascii()
    assert clean.isprintable()
    assert not clean.startswith((":", " "))
    assert values(cloudwatch, "names", {"stage": "embed", "lake": clean})["images"] == 200


def test_two_lakes_stay_two() -> None:
    """Long names cut to one, so that a lake shows the other's figures."""
    assert metrics.clean_dimension("s3://b/" + "x" * 5000) != metrics.clean_dimension("s3://b/" + "x" * 5001)
    assert metrics.clean_dimension("/ä") != metrics.clean_dimension("/ö")
    assert metrics.clean_dimension("s3://b/lakes/photos") == "s3://b/lakes/photos"


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, server: s3_server.S3Server, closed_port: int) -> None:
    """A run that ends because CloudWatch is down."""
    _point_at(f"http://127.0.0.1:{closed_port}", server, monkeypatch)
    said: list[str] = []
    with metrics.published(settings("down"), "embed", "/lake", said.append) as counts:
        counts.update(COUNTS)
    assert len(said) == 1
    assert said[0].startswith("metrics were not published: ")
    assert "\n" not in said[0]


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch, server: s3_server.S3Server) -> None:
    """A run that waits for CloudWatch."""
    monkeypatch.setattr(metrics, "WAIT_S", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        _point_at(f"http://127.0.0.1:{silent.getsockname()[1]}", server, monkeypatch)
        said: list[str] = []
        started = time.monotonic()
        with metrics.published(settings("silent"), "embed", "/lake", said.append) as counts:
            counts.update(COUNTS)
        assert time.monotonic() - started < 2
    assert said == ["metrics were not published: no answer in 0.5 s"]


def test_no_credentials(monkeypatch: pytest.MonkeyPatch, server: s3_server.S3Server) -> None:
    """A traceback of boto3 in place of a line."""
    _point_at(server.endpoint, server, monkeypatch)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    said: list[str] = []
    with metrics.published(settings("nobody"), "embed", "/lake", said.append) as counts:
        counts.update(COUNTS)
    assert len(said) == 1
    assert "NoCredentials" in said[0]


class _Reporter:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, job: str, text: str) -> None:
        self.lines.append(f"{job} {text}")

    working = staticmethod(lambda _: pytest.MonkeyPatch.context())  # any context manager


def test_run_stage_publishes(cloudwatch: Any) -> None:
    """A stage that is not hooked up, and one that broke its promise but counts as done."""
    lake = SimpleNamespace(uri="s3://b/lake", version=lambda _: 0, within=lambda *_: None)
    loaded = config.load((), ["metrics.namespace=hooked", "metrics.usd_per_hour=1"])
    same = {"inputs": {}, "settings": {"version": __version__}, "counts": {}}
    history = cast(History, SimpleNamespace(last_done=lambda _: same))
    context = Context(cast(Lake, lake), loaded, cast(Reporter, _Reporter()), _history=history)

    def stage(name: str, counts: Counts) -> Stage:
        return Stage(name, "", (), (), lambda _: {}, lambda _: counts, always=lambda _: True)

    done = stage("embed", {**COUNTS, "wrote": 0}).run(context)
    assert done.counts["in"] == 200
    with pytest.raises(ContractError):
        stage("issues", {**COUNTS, "out": 1}).run(context)
    assert values(cloudwatch, "hooked", {"stage": "embed"})["images"] == 200
    assert values(cloudwatch, "hooked", {"stage": "issues"})["failed_stages"] == 1


def _point_at(endpoint: str, server: s3_server.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**server.env, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
