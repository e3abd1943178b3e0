"""Images that arrive: how long until they are judged, at what cost, and that nothing is lost or comes twice.

    python -m tests.bench.live_watch --labelled DIR [--images 50000] [--parts arrivals,kills]

The lake's images are made of DIR (tests.bench.live_pictures) and lie in a folder; what arrives lies in a bucket of a
moto server, whose queue tells `imagesieve watch` of it, each a process of its own.

- arrivals: BATCHES of ARRIVING pictures each, a tenth of them copies of pictures of the lake, each told of by a message
  of its own, a twentieth of the messages twice. lag_s, the 95th percentile: from when a message was sent until a commit
  of `runs`, the last of its batch's, is there. cpu_s: of the watch with all its children, a batch; embed_cpu_s: what
  `imagesieve embed` takes for as many (a slope of two sizes); beyond_s = cpu_s - 3 x embed_cpu_s. differ: rows of each
  table that are others once the same images are searched, clustered, judged, named, rated and laid out in albums anew;
  the search is approximate from neighbours.exact_images on, so two searches find other far neighbours. The lake has a
  rating, and arrivals go to the albums of OWNERS; album_runs: how many runs these lie in at the end.
- kills: KILLS of the watch at seeded moments, while KILLED_IMAGES arrive, change and go, in messages that come twice
  and out of order, with POISON among them. differ: rows of each table that are other than those of a fresh lake (but
  for size_score and percentiles of ratings, which hold an image against the lake as the last whole run found it);
  queue: messages left in it; dead: messages in the dead letters, as many as were planted."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from deltalake import DeltaTable, write_deltalake

from jobs.albums.runs import runs_of
from jobs.lakes import mark
from jobs.rating import store
from jobs.tables import TABLES
from tests import heads, live_compare, s3_server
from tests.bench import live_pictures, process_tree

BATCHES, ARRIVING = 10, 100
COPIES = 0.1  # of what arrives
TWICE = 0.05  # of the messages
EVERY = "2s"
OWNERS = 40  # whose albums pictures come to; in the lake a folder of live_pictures is an owner
OWNER = "{owner}/*"
SIZES = (200, 1200)  # of the slope of embed
KILLS, KILLED_IMAGES, POISON = 20, 300, 3
BUCKET = "lake"
ANEW = ("neighbours", "clusters", "content", "issues", "rate", "albums")  # stages, in their order
KEPT = ("images", "features", "embeddings", "failures", "reviews", "runs")
FROZEN = {"scores": {"size_score"}, "issues": {"score"}, "ratings": {"percentile"}}


class Cloud:
    """A bucket and its queue, with dead letters."""

    def __init__(self, server: s3_server.S3Server) -> None:
        import boto3

        self.s3, self.env = server.client(), {**os.environ, **server.env}
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        self._sqs = boto3.client("sqs", endpoint_url=server.endpoint, region_name="us-east-1", **keys)
        self.dead = self._sqs.create_queue(QueueName="dead")["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self.dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "1000"})
        queue = self._sqs.create_queue(QueueName="arrivals", Attributes={"RedrivePolicy": policy})
        self.queue = queue["QueueUrl"]
        self._number = 0

    def put(self, key: str, data: bytes) -> dict[str, Any]:
        """Puts an object, and returns the event that tells of it."""
        found = self.s3.put_object(Bucket=BUCKET, Key=key, Body=data)
        return self._event("ObjectCreated:Put", key, {"size": len(data), "eTag": found["ETag"].strip('"')})

    def delete(self, key: str) -> dict[str, Any]:
        self.s3.delete_object(Bucket=BUCKET, Key=key)
        return self._event("ObjectRemoved:Delete", key, {})

    def _event(self, name: str, key: str, more: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        about = {"key": key, "sequencer": f"{self._number:016X}", **more}
        return {
            "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": name, "eventTime": "2026-01-01T00:00:00.000Z",
            "s3": {"bucket": {"name": BUCKET}, "object": about},
        }  # fmt: skip

    def send(self, bodies: list[str]) -> None:
        for at in range(0, len(bodies), 10):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[at : at + 10])]
            self._sqs.send_message_batch(QueueUrl=self.queue, Entries=entries)

    def waiting(self, url: str) -> int:
        """Messages of a queue, those that somebody has at hand too."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)


def told(events: list[dict[str, Any]], rng: random.Random) -> list[str]:
    """A message for each event, some twice."""
    bodies = [json.dumps({"Records": [event]}) for event in events]
    return bodies + rng.sample(bodies, round(TWICE * len(bodies)))


@contextmanager
def cloud() -> Iterator[Cloud]:
    with s3_server.serve(BUCKET) as server:
        yield Cloud(server)


def imagesieve(*argv: str | int | Path) -> list[str]:
    return [sys.executable, "-m", "imagesieve", *map(str, argv)]


def ran(command: list[str], env: dict[str, str]) -> process_tree.Measured:
    done = process_tree.run(command, env=env)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.err[-2000:]}")
    return done


class Watch:
    """`imagesieve watch`, at work. lines: what it has said, as JSON."""

    def __init__(self, lake: Path, at: Cloud, visibility: str = "300s") -> None:
        command = imagesieve(
            "watch", "--lake", lake, "--queue", at.queue, "--every", EVERY, "--at-least", ARRIVING,
            "--visibility", visibility,
        )  # fmt: skip
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=at.env)
        self.lines: list[dict[str, Any]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith("{"):
                self.lines.append(json.loads(line))

    def cpu_s(self) -> float:
        """Of the watch and all below it that there are, with what those that ended had used."""
        whole = 0.0
        own = psutil.Process(self.process.pid)
        for one in (own, *own.children(recursive=True)):
            times = one.cpu_times()
            whole += times.user + times.system + times.children_user + times.children_system
        return float(whole)

    def kill(self) -> None:
        """Ends it and its children at once."""
        processes = [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]
        self.process.send_signal(signal.SIGKILL)
        for one in processes:
            if one.is_running():
                one.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=120)


def batches(lake: Path) -> int:
    """Batches that are in `runs`."""
    return sum(
        job == "watch" for job in DeltaTable(str(lake / "runs")).to_pyarrow_table(columns=["job"])["job"].to_pylist()
    )


def images(lake: Path) -> int:
    return int(DeltaTable(str(lake / "images")).to_pyarrow_dataset().count_rows())


def embed_cpu_s(labelled: Path, work: Path, env: dict[str, str]) -> float:
    """CPU seconds that one image costs `imagesieve embed`."""
    used = []
    for size in SIZES:
        folder, lake = work / f"embed-{size}", work / f"embed-{size}-lake"
        live_pictures.make(labelled, folder, size, first=5_000_000)
        ran(imagesieve("catalog", folder, "--lake", lake), env)
        used.append(ran(imagesieve("embed", "--lake", lake), env).cpu_s)
    return (used[1] - used[0]) / (SIZES[1] - SIZES[0])


def copy_of(pixels: np.ndarray, rng: random.Random) -> bytes:
    """Another file of the same picture: of less quality, smaller, cut or brighter."""
    how = rng.randrange(4)
    if how == 0:
        return live_pictures.saved(pixels, 60)
    if how == 1:
        return live_pictures.saved(cv2.resize(pixels, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA))
    if how == 2:
        edge = pixels.shape[0] // 12
        return live_pictures.saved(pixels[edge:-edge, edge:-edge])
    return live_pictures.saved(np.clip(pixels.astype(np.float32) * 1.15, 0, 255).astype(np.uint8))


def made(lake: Path, at: Cloud, *folders: Path) -> None:
    """A lake with a rating and owners, of folders and the bucket."""
    mark(str(lake))
    store.write(str(lake), heads.seeded("crisp@1"))
    ran(imagesieve("run", *folders, f"s3://{BUCKET}/in", "--lake", lake, "--owner", OWNER), at.env)


def arrivals(labelled: Path, count: int, work: Path) -> dict[str, Any]:
    """The part of this name. work: a folder; a lake of so many images that is there already is taken."""
    of, rng = live_pictures.tiles(labelled), random.Random(7)
    folder, lake = work / "in", work / "lake"
    with cloud() as at:
        for number in range(5):  # so that the bucket is an input of the lake
            at.put(f"in/first-{number}.jpg", live_pictures.saved(live_pictures.picture(of, 4_000_000 + number)))
        if not lake.exists():
            live_pictures.make(labelled, folder, count)
            made(lake, at, folder)
        before, lags = batches(lake), []
        watch = Watch(lake, at)
        try:
            wait(lambda: any(line["event"] == "watching" for line in watch.lines), watch)
            # The first one opens the lake, which is no cost of a batch.
            at.send(told([at.put("in/opens.jpg", live_pictures.saved(live_pictures.picture(of, 4_100_000)))], rng))
            wait(lambda: batches(lake) > before, watch)
            before, used = batches(lake), watch.cpu_s()
            for batch in range(BATCHES):
                events = []
                for number in range(ARRIVING):
                    new = rng.random() >= COPIES
                    pixels = live_pictures.picture(
                        of, (3_000_000 + batch * ARRIVING + number) if new else rng.randrange(count)
                    )
                    data = live_pictures.saved(pixels) if new else copy_of(pixels, rng)
                    events.append(at.put(f"in/{rng.randrange(OWNERS):04d}/{batch:02d}-{number:03d}.jpg", data))
                bodies = told(events, rng)
                rng.shuffle(bodies)
                sent, there = time.monotonic(), images(lake)
                at.send(bodies)
                while images(lake) < there + ARRIVING or batches(lake) == before:
                    wait_a_little(watch)
                before = batches(lake)
                lags += [time.monotonic() - sent] * ARRIVING
            cpu = (watch.cpu_s() - used) / BATCHES
            watch.stop()
        finally:
            if watch.process.poll() is None:
                watch.kill()
        each = embed_cpu_s(labelled, work, at.env) * ARRIVING
        return {
            "images": images(lake), "lag_s": round(float(np.quantile(lags, 0.95)), 1), "cpu_s": round(cpu, 2),
            "embed_cpu_s": round(each, 2), "beyond_s": round(cpu - 3 * each, 2),
            "album_runs": len(runs_of(str(lake / "albums"))), "differ": anew(lake, work, at.env),
        }  # fmt: skip


def anew(lake: Path, work: Path, env: dict[str, str]) -> dict[str, str]:
    """By table how many rows are others, of how many, once the same vectors are searched, clustered and judged anew."""
    fresh = work / "anew"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(lake, fresh)
    for name in TABLES.keys() - set(KEPT):
        shutil.rmtree(fresh / name, ignore_errors=True)
    runs = DeltaTable(str(fresh / "runs")).to_pyarrow_table()
    read = [job in ("catalog", "embed") for job in runs["job"].to_pylist()]
    write_deltalake(str(fresh / "runs"), runs.filter(read), mode="overwrite")
    for stage in ANEW:
        ran(imagesieve(stage, "--lake", fresh), env)
    return differing(lake, fresh)


def differing(a: Path, b: Path) -> dict[str, str]:
    """By table how many rows of a are others in b, of how many, in words; tables that are the same are not in it."""
    out = {}
    for name in live_compare.COMPARED:
        found = live_compare.differences(a, b, FROZEN, (name,))
        if found:
            out[name] = f"{found[name][-1].split()[0]} of {len(live_compare.rows(a, name)):,}"
    return out


def kills(labelled: Path, work: Path) -> dict[str, Any]:
    """The part of this name."""
    of, rng = live_pictures.tiles(labelled), random.Random(11)
    lake = work / "killed"
    held: dict[str, bytes] = {}

    def new(key: str, number: int) -> dict[str, Any]:
        held[key] = live_pictures.saved(live_pictures.picture(of, number))
        return at.put(key, held[key])

    with cloud() as at:
        for number in range(KILLED_IMAGES):
            new(f"in/{number % OWNERS:04d}/{number:04d}.jpg", 1_000_000 + number)
        made(lake, at)
        killed, planted = 0, 0
        watch = Watch(lake, at, visibility="5s")
        try:
            while killed < KILLS:
                events = []
                for number in range(KILLED_IMAGES // KILLS):
                    what = rng.random()
                    if what < 0.6 or len(held) < 20:
                        events.append(new(f"in/{number:04d}/new-{killed:02d}.jpg", 2_000_000 + 100 * killed + number))
                    elif what < 0.75:
                        key = rng.choice(sorted(held))
                        held[key] = copy_of(live_pictures.opened(held[rng.choice(sorted(held))]), rng)
                        events.append(at.put(key, held[key]))
                    else:
                        key = rng.choice(sorted(held))
                        del held[key]
                        events.append(at.delete(key))
                bodies = told(events, rng)
                if planted < POISON:
                    bodies.append(f"no event {planted}")
                    planted += 1
                rng.shuffle(bodies)
                at.send(bodies)
                time.sleep(rng.uniform(0.0, 20.0))
                watch.kill()
                killed += 1
                watch = Watch(lake, at, visibility="5s")
            wait(lambda: at.waiting(at.queue) == 0, watch, patience_s=600)
            watch.stop()
        finally:
            if watch.process.poll() is None:
                watch.kill()
        fresh = work / "killed-fresh"
        made(fresh, at)
        return {
            "kills": killed, "images": images(lake), "expected": len(held), "queue": at.waiting(at.queue),
            "dead": at.waiting(at.dead), "planted": planted, "differ": differing(lake, fresh),
        }  # fmt: skip


def wait(until: Any, watch: Watch, patience_s: float = 900.0) -> None:
    """Raises RuntimeError where the watch ends, or it takes too long."""
    ends = time.monotonic() + patience_s
    while not until():
        if time.monotonic() > ends:
            raise RuntimeError(f"nothing for {patience_s:.0f} s: {watch.lines[-5:]}")
        wait_a_little(watch)


def wait_a_little(watch: Watch) -> None:
    if watch.process.poll() is not None:
        raise RuntimeError(f"the watch ended with {watch.process.returncode}: {watch.lines[-5:]}")
    time.sleep(0.1)


def measure(
    labelled: Path, count: int, parts: tuple[str, ...] = ("arrivals", "kills"), work: Path | None = None
) -> dict[str, Any]:
    """labelled: a folder of small JPEG files. work: kept if it is named, with a lake that later calls take."""
    with tempfile.TemporaryDirectory(prefix="live-watch-") as temporary:
        folder = work or Path(temporary)
        found: dict[str, Any] = {}
        if "arrivals" in parts:
            found["arrivals"] = arrivals(labelled, count, folder)
        if "kills" in parts:
            found["kills"] = kills(labelled, folder)
        return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live_watch")
    parser.add_argument("--labelled", type=Path, required=True, help="folder of small JPEG pictures")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--parts", default="arrivals,kills")
    parser.add_argument("--work", type=Path, help="where to put things, kept")
    options = parser.parse_args(argv)
    print(json.dumps(measure(options.labelled, options.images, tuple(options.parts.split(",")), options.work)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
