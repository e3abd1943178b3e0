"""What each stage tells CloudWatch: images, failures, speed, recall, cost, and that it failed.

Off unless metrics.namespace is set. A thread of its own does all of it, so that a slow or missing CloudWatch holds a
run up for WAIT_S a stage at most and never stops it. Each metric is published three times: for the stage and the lake,
for the stage, and for all together, since an alarm cannot look over dimensions that it does not know.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jobs import config

HEARTBEAT_S = 300.0  # between two values of running_seconds: an alarm on it looks at five minutes
WATCH_S = 60.0  # between two of what runs for ever
WAIT_S = 5.0  # that the end of a stage waits for its last request
MAX_VALUE = 200  # characters of a dimension; CloudWatch takes 1,024, a dashboard shows some 30

Metric = tuple[str, float, str]  # name, value, CloudWatch's unit


def stage_metrics(counts: Mapping[str, Any], seconds: float, usd_per_hour: float | None) -> list[Metric]:
    """The metrics of a stage that ended well. counts: of jobs.stage. usd_per_hour: null leaves the cost out.

    images_per_second counts what was read where the stage says so, for most images may be known from before."""
    images = counts["in"]
    found: list[Metric] = [
        ("images", images, "Count"),
        ("failures", counts["failed"], "Count"),
        ("failed_stages", 0, "Count"),
    ]
    if seconds > 0:
        found.append(("images_per_second", counts.get("read", images) / seconds, "Count/Second"))
    if "recall_at_k" in counts:
        found += [("recall", counts["recall_at_k"], "None"), ("pair_recall", counts["pair_recall"], "None")]
    return found + _time_and_cost(seconds, usd_per_hour)


def failed_metrics(seconds: float, usd_per_hour: float | None) -> list[Metric]:
    """The metrics of a stage that failed; it cost money, too."""
    return [("failed_stages", 1, "Count"), *_time_and_cost(seconds, usd_per_hour)]


@contextmanager
def published(
    settings: config.Metrics, job: str, lake_uri: str, warn: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Publishes what happens inside: the stage's counts, which it puts into the dict, or that an exception left it.

    While inside, running_seconds every HEARTBEAT_S. warn: gets one line where CloudWatch did not take them."""
    counts: dict[str, Any] = {}
    if settings.namespace is None:
        yield counts
        return
    publisher = _Publisher(settings.namespace, job, lake_uri, HEARTBEAT_S, _running())
    started = time.monotonic()
    try:
        yield counts
    except Exception:
        publisher.end(failed_metrics(time.monotonic() - started, settings.usd_per_hour), warn)
        raise
    except BaseException:  # Ctrl-C: nobody needs to be told
        publisher.end([], warn)
        raise
    publisher.end(stage_metrics(counts, time.monotonic() - started, settings.usd_per_hour), warn)


@contextmanager
def watched(
    settings: config.Metrics, job: str, lake_uri: str, now: Callable[[], list[Metric]], warn: Callable[[str], None]
) -> Iterator[None]:
    """Publishes what now() says every WATCH_S while inside, and once more at the end."""
    if settings.namespace is None:
        yield
        return
    publisher = _Publisher(settings.namespace, job, lake_uri, WATCH_S, now)
    try:
        yield
    finally:
        publisher.end(now(), warn)


def clean_dimension(value: str) -> str:
    """A text as CloudWatch takes it for a dimension: printable ASCII, no colon in front, at most MAX_VALUE characters.

    One that had to be changed ends in a part of its hash, so that two stay two."""
    clean = re.sub(r"[^\x20-\x7e]", "?", value).strip().lstrip(":")
    if clean == value and 0 < len(clean) <= MAX_VALUE:
        return clean
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{clean[: MAX_VALUE - len(digest) - 1]}~{digest}"


class _Publisher:
    """One stage's thread: what now() says every every_s until `end`, then the last metrics."""

    def __init__(
        self, namespace: str, job: str, lake_uri: str, every_s: float, now: Callable[[], list[Metric]]
    ) -> None:
        stage = {"Name": "stage", "Value": clean_dimension(job)}
        lake = {"Name": "lake", "Value": clean_dimension(lake_uri)}
        self._namespace = namespace
        self._dimensions: list[list[dict[str, str]]] = [[stage, lake], [stage], []]
        self._last: list[Metric] = []
        self._error = ""
        self._ended = threading.Event()
        self._every_s, self._now = every_s, now
        self._thread = threading.Thread(target=self._run, name=f"metrics of {job}", daemon=True)
        self._thread.start()

    def end(self, metrics: list[Metric], warn: Callable[[str], None]) -> None:
        self._last = metrics
        self._ended.set()
        self._thread.join(WAIT_S)
        if self._thread.is_alive():
            self._error = f"no answer in {WAIT_S:g} s"
        if self._error:
            warn(f"metrics were not published: {' '.join(self._error.split())[:300]}")

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self._put(self._now())
        self._put(self._last)

    def _put(self, metrics: list[Metric]) -> None:
        data = [
            {"MetricName": name, "Value": float(value), "Unit": unit, "Dimensions": dimensions}
            for name, value, unit in metrics
            for dimensions in self._dimensions
        ]
        if not data:
            return
        try:
            _client().put_metric_data(Namespace=self._namespace, MetricData=data)
            self._error = ""
        except Exception as error:  # whatever it is: it must not reach the run, and the next request may succeed
            self._error = f"{type(error).__name__}: {error}"


def _running() -> Callable[[], list[Metric]]:
    started = time.monotonic()
    return lambda: [("running_seconds", time.monotonic() - started, "Seconds")]


def _time_and_cost(seconds: float, usd_per_hour: float | None) -> list[Metric]:
    found: list[Metric] = [("stage_seconds", seconds, "Seconds")]
    if usd_per_hour is not None:
        found.append(("estimated_cost_usd", seconds * usd_per_hour / 3600, "None"))
    return found


def _client() -> Any:
    import boto3
    from botocore.config import Config

    from udfs.stores import s3

    short = Config(connect_timeout=1.0, read_timeout=2.0, retries={"mode": "standard", "total_max_attempts": 2})
    # A session of its own: boto3's default one may not be used by two threads at once.
    return boto3.session.Session().client("cloudwatch", region_name=s3.region(), config=short)
