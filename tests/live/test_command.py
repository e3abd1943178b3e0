"""Catches options that are taken wrongly, bad input told in more than a line, a stop that loses or hangs, and health
endpoints that say the wrong thing."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs import config, metrics
from jobs.errors import INTERRUPTED, ConfigError, InputError, LakeError, RunError
from jobs.live import command, figures, health
from jobs.live.changes import Outcome
from jobs.live.sources import wanted
from tests import s3_server
from tests.live import lakes
from tests.live.conftest import Queues
from tests.live.lakes import Book
from tests.live.test_folder import until


def refused(*options: str) -> RunError:
    with pytest.raises(RunError) as caught:
        command.main(options, lambda *_: pytest.fail("the lake was opened"))
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("text", "found"), [("60s", 60), ("90", 90), ("1.5m", 90), ("2h", 7200), (" 5 m ", 300), ("0.25s", 0.25)]
)
def test_times(text: str, found: float) -> None:
    assert command.seconds("--every", text) == found


@pytest.mark.parametrize("text", ["", "-1s", "1d", "1e3", "s", "nan", "1s1s", "9" * 20, "1\n2"])
def test_no_times(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--every: must be a time"):
        command.seconds("--every", text)


def test_bad_input(tmp_path: Path, queues: Queues) -> None:
    """A traceback, or something that is written or opened before it is told."""
    lake = lakes.make(tmp_path / "lake", [queues.uri("")])
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "lake.json").write_text((tmp_path / "lake/lake.json").read_text(encoding="utf-8"), encoding="utf-8")
    local = lakes.make(tmp_path / "local", ["/photos"])
    queues.put("a.jpg")
    url = queues.url
    for kind, message, options in (
        (LakeError, "no lake yet", ["--lake", str(tmp_path / "none"), "--queue", url]),
        (LakeError, "nothing is catalogued", ["--lake", str(bare), "--queue", url]),
        (ConfigError, "name some with --prefix", ["--lake", local, "--queue", url]),
        (InputError, "no such queue", ["--lake", lake, "--queue", url + "x"]),
        (InputError, "no URL of a queue", ["--lake", lake, "--queue", "photos"]),
        (InputError, "no redrive policy", ["--lake", lake, "--queue", queues.dead]),
        (ConfigError, "must be s3://", ["--lake", lake, "--queue", url, "--prefix", "/photos"]),
        (ConfigError, "--every", ["--lake", lake, "--queue", url, "--every", "1d"]),
        (ConfigError, "--every", ["--lake", lake, "--queue", url, "--every", "7h"]),
        (ConfigError, "--visibility", ["--lake", lake, "--queue", url, "--visibility", "13h"]),
        (ConfigError, "--at-least", ["--lake", lake, "--queue", url, "--at-least", "0"]),
        (ConfigError, "--at-most", ["--lake", lake, "--queue", url, "--at-least", "5", "--at-most", "4"]),
        (ConfigError, "go with --queue", ["--lake", lake, "--folder", str(tmp_path), "--prefix", "s3://a"]),
        (ConfigError, "is on S3", ["--lake", lake, "--folder", "s3://a/b"]),
        (ConfigError, "in the lake itself", ["--lake", lake, "--folder", lake]),
        (InputError, "no such file or folder", ["--lake", lake, "--folder", str(tmp_path / "none")]),
        (ConfigError, "cannot listen", ["--lake", lake, "--queue", url, "--health", "70000"]),
        (ConfigError, "unknown", ["--lake", lake, "--queue", url, "--set", "none.such=1"]),
    ):
        error = refused(*options)
        assert isinstance(error, kind), (options, error)
        assert message in str(error) or (kind is ConfigError and "none.such" in str(options)), (options, error)
    assert queues.counts() == (0, 0)


def test_what_a_lake_was_made_of(tmp_path: Path, queues: Queues) -> None:
    """Inputs of an older run, of one that failed, or of a manifest taken for a prefix."""
    queues.put("in/a.jpg")
    queues.put("list.csv", b"uri\n")
    lake = lakes.make(tmp_path / "lake", ["/photos", queues.uri("in"), queues.uri("list.csv")])
    found = wanted.in_buckets(lake, [])
    assert found.places == (queues.uri("in/"),)
    assert found.extensions == {"jpg", "png"}
    assert wanted.in_buckets(lake, ["s3a://b/c", "s3://d/"]).places == ("s3://b/c/", "s3://d/")
    assert wanted.beyond(lake, wanted.in_buckets(lake, [queues.uri("in/x"), "s3://d"])) == ["s3://d/"]
    local = lakes.make(tmp_path / "local", [str(tmp_path)])
    assert wanted.beyond(local, wanted.in_folder(local, str(tmp_path))) == []


def lines(process: "subprocess.Popen[str]") -> list[dict[str, Any]]:
    """What a process that has ended said: each line of it is JSON."""
    assert process.stderr is not None
    return [json.loads(line) for line in process.stderr.read().splitlines()]


def started(book: Path, seconds: float, *options: str) -> "subprocess.Popen[str]":
    run = [sys.executable, "-m", "tests.live.watching", str(book), str(seconds), *options]
    return subprocess.Popen(run, stderr=subprocess.PIPE, text=True, env=dict(os.environ), start_new_session=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_after_the_batch(tmp_path: Path, queues: Queues, number: signal.Signals) -> None:
    """A container that is stopped in the middle of a batch, which is done again, or that does not stop at all; Ctrl-C
    that ends the children of a batch, for a terminal sends it to all."""
    lake, book = lakes.make(tmp_path / "lake", [queues.uri("")]), tmp_path / "book.json"
    queues.arrive("a.jpg", "b.jpg")
    watch = started(book, 3, "--lake", lake, "--queue", queues.url, "--every", "1s", "--at-least", "1")
    try:
        until(book.with_suffix(".at-work").exists, 60)
        assert not Book(book).images
        os.killpg(watch.pid, number) if number == signal.SIGINT else watch.send_signal(number)
        assert watch.wait(60) == 0
    finally:
        watch.kill()
    assert set(Book(book).images) == {queues.uri("a.jpg"), queues.uri("b.jpg")}
    assert queues.counts() == (0, 0)
    said = lines(watch)
    assert [line["event"] for line in said] == ["watching", "stage", "batch", "ended"]
    assert said[2]["added"] == 2
    assert 0 < said[2]["lag_s"] < 60


def test_a_second_stop_interrupts(tmp_path: Path, queues: Queues) -> None:
    """A watch that can only be killed, and one that loses what it was at."""
    lake, book = lakes.make(tmp_path / "lake", [queues.uri("")]), tmp_path / "book.json"
    queues.arrive("a.jpg")
    watch = started(book, 60, "--lake", lake, "--queue", queues.url, "--every", "0", "--at-least", "1")
    try:
        until(book.with_suffix(".at-work").exists, 60)
        os.killpg(watch.pid, signal.SIGINT)
        time.sleep(1)
        assert watch.poll() is None
        os.killpg(watch.pid, signal.SIGINT)
        assert watch.wait(30) == INTERRUPTED
    finally:
        watch.kill()
    assert watch.stderr is not None
    *_, last = watch.stderr.read().splitlines()
    assert last == "imagesieve: interrupted; nothing is lost: start it again to go on"
    assert queues.counts() == (1, 0)
    assert not Book(book).images


def test_folder_and_once(tmp_path: Path) -> None:
    """The program itself, to its end, with its health endpoints on a free port."""
    photos, book = tmp_path / "photos", tmp_path / "book.json"
    photos.mkdir()
    (photos / "a.jpg").write_text("x", encoding="utf-8")
    lake = lakes.make(tmp_path / "lake", [str(photos)])
    watch = started(book, 0, "--lake", lake, "--folder", str(photos), "--once", "--health", "0")
    assert watch.wait(60) == 0
    assert set(Book(book).images) == {str(photos / "a.jpg")}
    assert [line["event"] for line in lines(watch)] == ["health", "watching", "stage", "listed", "batch", "ended"]


def asked(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_health(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that hangs and is told to live, one that waits for its lake and is killed for it, and wrong figures."""
    clock = [1000.0]
    now = SimpleNamespace(monotonic=lambda: clock[0], time=lambda: 500.0)
    monkeypatch.setattr(figures, "time", now)
    found = figures.Figures()
    found.of_source(lambda: (7, 420.0))
    with health.serving(found, "127.0.0.1", 0) as port:
        assert asked(port, "/live") == (200, "ok\n")
        assert asked(port, "/ready") == (503, "the lake is not open yet\n")
        found.ready()
        assert asked(port, "/ready") == (200, "ok\n")
        found.brought(Outcome(3, 1, 2, 3, 4, 5, 6), 1.5, 20.25)
        found.count("poison_messages")
        text = asked(port, "/metrics?x=1")[1]
        for line in (
            "imagesieve_watch_batches_total 1", "imagesieve_watch_added_total 1", "imagesieve_watch_failed_total 5",
            "imagesieve_watch_left_out_total 6", "imagesieve_watch_oldest_seconds 80",
            "imagesieve_watch_images_behind 7", "imagesieve_watch_lag_seconds 20.25", "imagesieve_watch_ready 1",
            "imagesieve_watch_poison_messages_total 1",
        ):  # fmt: skip
            assert f"\n{line}\n" in text
        clock[0] += figures.SILENT_S + 1
        assert asked(port, "/live")[0] == 503
        found.beat()
        assert asked(port, "/live")[0] == 200
        found.working()
        clock[0] += figures.SILENT_S + 1
        assert asked(port, "/live")[0] == 200  # a batch takes its time
        clock[0] += figures.STUCK_S
        assert asked(port, "/live") == (503, f"one batch runs for {figures.STUCK_S + figures.SILENT_S + 1:.0f} s\n")
        found.rests()
        found.ready("a\nb")
        assert asked(port, "/ready") == (503, "a b\n")
        assert asked(port, "/")[0] == 404
        with pytest.raises(ConfigError, match="cannot listen"), health.serving(found, "127.0.0.1", port):
            pass


def test_cloudwatch(aws: s3_server.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that no alarm sees, and counters that are counted twice."""
    import boto3

    monkeypatch.setattr(metrics, "WATCH_S", 0.2)
    found = figures.Figures()
    found.of_source(lambda: (7, time.time() - 30))
    settings = config.Metrics("live-test", None)
    with metrics.watched(settings, "watch", "s3://b/lake", found.metrics, pytest.fail):
        found.count("refused_batches", 3)
        cloudwatch = boto3.session.Session().client("cloudwatch")
        until(lambda: bool(cloudwatch.list_metrics(Namespace="live-test")["Metrics"]))
    told = cloudwatch.list_metrics(Namespace="live-test")["Metrics"]
    assert {one["MetricName"] for one in told} == {*figures.COUNTERS, *figures.GAUGES}
    now = time.time()
    points: Callable[[str, str], list[dict[str, Any]]] = lambda name, how: cloudwatch.get_metric_statistics(  # noqa: E731
        Namespace="live-test", MetricName=name, Statistics=[how], Period=7200, StartTime=now - 3600, EndTime=now + 3600,
        Dimensions=[{"Name": "stage", "Value": "watch"}, {"Name": "lake", "Value": "s3://b/lake"}],
    )["Datapoints"]  # fmt: skip
    assert sum(point["Sum"] for point in points("refused_batches", "Sum")) == 3
    assert max(point["Maximum"] for point in points("oldest_seconds", "Maximum")) == pytest.approx(30, abs=15)
    assert max(point["Maximum"] for point in points("images_behind", "Maximum")) == 7
