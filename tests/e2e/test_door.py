"""Catches a door that says something else of a picture than the lake does, or would once it has it; one that lets in
what it must not, and one that is ended or held up by what comes in."""

from __future__ import annotations

import io
import json
import os
import shutil
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagesieve
import numpy as np
import psutil
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from jobs.rating import command as ratings
from jobs.serve.door import routes
from tests.e2e import apps, images, lakes
from tests.e2e.apps import AppProcess
from tests.e2e.conftest import LONG_AGO
from tests.s3_server import S3Server
from udfs.images.rows import PROPERTIES

PLAIN = 30  # pictures that have no copy
BY_ITSELF = ("dark", "bright", "blurry", "noisy", "blocky", "low_contrast", "low_information", "flat", "low_quality",
             "odd_size", "odd_aspect_ratio", "grayscale", "damaged", "corrupted", "unread")  # fmt: skip


@dataclass(frozen=True)
class Before:
    """A lake, its folder, and pictures that come later, by name."""

    folder: Path
    lake: Path
    later: dict[str, bytes]


def scene(seed: int) -> np.ndarray:
    return images.picture(seed, 320, 240)


def larger(pixels: np.ndarray) -> bytes:
    return images.jpeg(np.asarray(Image.fromarray(pixels).resize((640, 480), Image.Resampling.LANCZOS)))


@pytest.fixture(scope="module")
def before(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Before:
    root = tmp_path_factory.mktemp("door")
    files = {f"{n:03d}.jpg": images.jpeg(scene(n)) for n in range(PLAIN)}
    files |= {name: data for name, (data, _) in images.bad_files().items()}
    files |= {name: data for name, (data, *_) in images.odd_files().items()}
    files["dark.jpg"] = images.jpeg((scene(50) * 0.1).astype(np.uint8))
    files["blurred.png"] = images.png(np.asarray(Image.fromarray(scene(51)[:40, :40]).resize((320, 240))))
    files["copy of 1.jpg"] = files["001.jpg"]
    files["as png.png"] = images.png(np.asarray(Image.open(io.BytesIO(files["002.jpg"]))))
    files["small 3.jpg"] = images.near_copy(scene(3))
    folder = images.write(root / "in", files)
    for path in folder.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    lakes.ran(spark, "run", folder, "--lake", root / "lake")
    picks = root / "picks.csv"
    lines = [f"{folder / f'{n:03d}.jpg'},{'yes' if n % 2 else 'no'}" for n in range(20)]
    picks.write_text("uri,picked\n" + "\n".join(lines) + "\n", encoding="utf-8")
    assert ratings.main(["fit", "odd", "--lake", str(root / "lake"), "--picks", str(picks)]) == 0
    lakes.ran(spark, "run", folder, "--lake", root / "lake")
    later = {
        "same bytes.jpg": files["004.jpg"],
        "same pixels.jpg": files["005.jpg"] + b"more",
        "recompressed.jpg": images.jpeg(scene(6), 40),
        "small.jpg": images.near_copy(scene(7)),
        "mirrored.jpg": images.jpeg(scene(8)[:, ::-1].copy()),
        "cropped.jpg": images.jpeg(scene(9)[24:216, 32:288]),
        "larger.jpg": larger(scene(12)),
        "larger and unlike.jpg": larger(scene(10)),
        "of a cluster.jpg": images.jpeg(scene(3), 60),
        "another.jpg": images.jpeg(scene(80)),
        "dark too.jpg": images.jpeg((scene(81) * 0.1).astype(np.uint8)),
    }
    return Before(folder, root / "lake", later)


@pytest.fixture(scope="module")
def after(spark: SparkSession, before: Before) -> Path:
    """The lake once the later pictures have come."""
    root = before.lake.parent
    shutil.copytree(before.folder, root / "more")
    for name, data in before.later.items():
        (root / "more" / name).write_bytes(data)
    shutil.copytree(before.lake, root / "then")
    shutil.copytree(before.folder, root / "kept")
    for name, data in before.later.items():
        (before.folder / name).write_bytes(data)
    lakes.ran(spark, "run", before.folder, "--lake", root / "then")
    for name in before.later:
        (before.folder / name).unlink()
    return root / "then"


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGESIEVE_CACHE", str(folder))
        yield folder


def by_id(lake: Path, table: str) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in lakes.rows(lake, table):
        found.setdefault(row["image_id"], []).append(row)
    return found


def test_what_the_lake_has_is_said_again(before: Before) -> None:
    """Another decoding, formula, limit, network, batch or head at the door than in the lake."""
    lake = imagesieve.open(before.lake)
    features, scores, issues, concepts, rated, failures = (
        by_id(before.lake, name) for name in ("features", "scores", "issues", "concepts", "ratings", "failures")
    )
    compared = 0
    for image in lakes.rows(before.lake, "images"):
        number = image["image_id"]
        said = lake.check(Path(image["uri"]).read_bytes())
        own = {(row["issue"], row["score"], row["detail"]) for row in issues.get(number, ())}
        told = {(row["issue"], row["score"], row["detail"]) for row in said["issues"]}
        of_file = {row for row in own if row[0] in BY_ITSELF}
        assert {row for row in told if row[0] in BY_ITSELF} == of_file, image["uri"]
        if number in failures:
            assert said["error"]["code"] == failures[number][0]["error"]
            continue
        (known,) = features[number]
        assert said["properties"] == {name: known[name] for name in PROPERTIES}, image["uri"]
        assert all(said["picture"][name] == known[name] for name in ("sha256", "pixel_hash", "width", "medium"))
        (row,) = scores[number]
        assert said["scores"] == pytest.approx({name: row[name] for name in said["scores"]}, abs=2e-6)
        best = sorted(concepts[number], key=lambda each: int(each["rank"]))
        assert [(each["concept"], each["confidence"]) for each in said["concepts"]] == [
            (each["concept"], each["confidence"]) for each in best
        ]
        (rating,), (head,) = rated[number], said["ratings"]
        assert head["rating"] == rating["rating"]
        for name in ("score", "percentile", "uncertainty"):
            assert head[name] == pytest.approx(rating[name], abs=1e-6)
        assert number in [each["image_id"] for each in said["exact"]["images"]]
        compared += 1
    assert compared > PLAIN


def test_what_the_lake_will_say_is_said_before(before: Before, after: Path) -> None:
    """Copies that the door finds and the pipeline does not, or the other way round; another relation or evidence."""
    uri_of = {row["image_id"]: row["uri"] for row in lakes.rows(after, "images")}
    id_of = {Path(uri).name: number for number, uri in uri_of.items()}
    issues = by_id(after, "issues")
    lake = imagesieve.open(before.lake)
    names = ("exact_duplicate", "near_duplicate", "look_alike")
    for name, data in before.later.items():
        said = lake.check(data)
        mine = {row["image_id"]: row["uri"] for row in lakes.rows(before.lake, "images")}
        told = [(row["issue"], mine[row["evidence_id"]], row["detail"], row["cosine"]) for row in said["issues"]
                if row["issue"] in names]  # fmt: skip
        then = [(row["issue"], uri_of[row["evidence_id"]], row["detail"], row["cosine"])
                for row in issues.get(id_of[name], ()) if row["issue"] in names]  # fmt: skip
        assert told == then, name
    assert [row["issue"] for row in issues[id_of["012.jpg"]]] == ["near_duplicate"]
    (near,) = lake.check(before.later["larger.jpg"])["near"]
    assert (near["kept"], near["relation"], near["level"]) == ("given", "resized", "high")
    assert lake.check(before.later["another.jpg"])["near"] == []
    assert next(row["issue"] for row in lake.check(before.later["dark too.jpg"])["issues"]) == "dark"


def test_nothing_is_written(before: Before) -> None:
    there = lakes.files_below(before.lake)
    lakes_bytes = {name: (before.lake / name).stat().st_mtime_ns for name in there}
    imagesieve.open(before.lake).check(before.later["small.jpg"])
    assert lakes.files_below(before.lake) == there
    assert {name: (before.lake / name).stat().st_mtime_ns for name in there} == lakes_bytes


def test_the_command(before: Before, tmp_path: Path, cache: Path) -> None:
    """The program, a file that is not there, a lake that is none."""
    file = tmp_path / "given.jpg"
    file.write_bytes(before.later["mirrored.jpg"])
    environment = lakes.clean_environment(IMAGESIEVE_CACHE=str(cache))

    def ran(*argv: str) -> tuple[int, str, str]:
        import subprocess
        import sys

        done = subprocess.run(
            [sys.executable, "-m", "imagesieve", "check", *argv], env=environment, capture_output=True, text=True,
            timeout=120, check=False, cwd=lakes.ROOT,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    code, out, err = ran(str(file), "--lake", str(before.lake))
    assert (code, err) == (0, "")
    assert json.loads(out)["near"][0]["relation"] == "mirrored"
    code, out, err = ran(str(tmp_path / "none.jpg"), "--lake", str(before.lake))
    assert (code, out, len(err.splitlines())) == (3, "", 1)
    assert "not_found" in err
    code, _, err = ran(str(file), "--lake", str(tmp_path / "no-lake"))
    assert code == 4
    assert len(err.splitlines()) == 1
    code, _, err = ran("https://example.org/a.jpg", "--lake", str(before.lake))
    assert code == 3
    assert len(err.splitlines()) == 1


@pytest.fixture(scope="module")
def app(before: Before, cache: Path, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    client = s3.client()
    for key, data in {"incoming/new.jpg": before.later["mirrored.jpg"], "secret/a.jpg": b"secret"}.items():
        client.put_object(Bucket=s3.bucket, Key=key, Body=data)
    more = ("--door", "--door-from", f"s3://{s3.bucket}/incoming")
    with apps.serving(before.lake, cache, *more, **s3.env) as found:
        for _ in range(600):
            if found.get("/api/check")["ready"]:
                break
            time.sleep(0.1)
        assert found.get("/api/check")["ready"], found.get("/api/check")
        yield found


def given(app: AppProcess, data: bytes, **headers: str) -> Any:
    return app.client.post("/api/check", content=data, headers={"content-type": "application/octet-stream", **headers})


def test_a_picture_over_http(app: AppProcess, before: Before) -> None:
    answer = given(app, before.later["mirrored.jpg"])
    assert answer.status_code == 200
    said = answer.json()
    assert said == imagesieve.open(before.lake).check(before.later["mirrored.jpg"])
    assert said["near"][0]["uri"].endswith("008.jpg")
    assert answer.headers["cache-control"] == "no-store"


def test_a_picture_in_s3(app: AppProcess, s3: S3Server) -> None:
    answer = app.client.post("/api/check", json={"uri": f"s3://{s3.bucket}/incoming/new.jpg"})
    assert answer.status_code == 200
    assert answer.json()["near"][0]["relation"] == "mirrored"


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"uri": "file:///etc/passwd"}, 400),
        ({"uri": "/etc/passwd"}, 400),
        ({"uri": "http://169.254.169.254/latest/meta-data/"}, 400),
        ({"uri": "s3://evil.example:9000/a.jpg"}, 400),
        ({"uri": "s3://anna@evil/a.jpg"}, 400),
        ({"uri": "s3://evil/incoming/new.jpg"}, 403),
        ({"uri": "s3://BUCKET/secret/a.jpg"}, 403),
        ({"uri": "s3://BUCKET/incoming"}, 403),
        ({"uri": "s3://BUCKET/incoming-else/a.jpg"}, 403),
        ({"uri": "s3://BUCKET/incoming/../secret/a.jpg"}, 400),
        ({"uri": "s3a://BUCKET/secret/a.jpg"}, 403),
        ({"uri": 7}, 400),
        ({"uri": "s3://BUCKET/incoming/new.jpg", "endpoint": "http://evil"}, 400),
        (["s3://BUCKET/incoming/new.jpg"], 400),
    ],
)
def test_what_may_not_be_read(app: AppProcess, s3: S3Server, asked: Any, status: int) -> None:
    """A client that reads with the rights of the server."""
    body = json.dumps(asked).replace("BUCKET", s3.bucket).encode()
    answer = given(app, body, **{"content-type": "application/json; charset=utf-8"})
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"detail"}
    assert "\n" not in answer.json()["detail"]


def test_json_that_is_none(app: AppProcess) -> None:
    for body in (b"{", b"[" * 10_000, b'{"uri": "' + b"a" * routes.MOST_JSON + b'"}'):
        assert given(app, body, **{"content-type": "application/json"}).status_code in (400, 413)
    assert app.lives()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": ""}, 401),
        ({"host": "evil.example"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_who_may_ask(app: AppProcess, before: Before, headers: dict[str, str], status: int) -> None:
    answer = given(app, before.later["small.jpg"], **headers)
    assert answer.status_code == status
    assert before.lake.name not in answer.text


def hostile() -> dict[str, tuple[bytes, str]]:
    found = {name: (data, code) for name, (data, code) in images.bad_files().items()}
    whole = images.png(scene(1))
    # As wide and high as is read, of pixels that are not there: the decoder meets the end of its data.
    found["zlib"] = (whole[:60] + zlib.compress(b"\0" * 1000), "truncated")
    return found


def test_hostile_pictures(app: AppProcess) -> None:
    """One that is decoded in the server itself, or ends it; the answer is what the lake says of such a file."""
    before = app.bytes_used()
    for name, (data, code) in hostile().items():
        answer = given(app, data)
        assert answer.status_code == 200, name
        assert answer.json()["error"]["code"] in (code, "corrupt"), name
        assert answer.json()["issues"][0]["issue"] in ("corrupted", "unread")
    assert app.bytes_used() - before < 100 << 20
    assert app.lives()


def test_decoders_are_not_in_the_server(app: AppProcess, before: Before) -> None:
    """A server that has loaded what decodes."""
    assert given(app, before.later["small.jpg"]).status_code == 200
    maps = Path(f"/proc/{app._process.pid}/maps").read_text(encoding="utf-8")
    assert "_simplejpeg" not in maps
    assert psutil.Process(app._process.pid).children(recursive=True)


def test_a_body_that_says_it_is_too_long(app: AppProcess) -> None:
    """One that is read before it is refused."""
    with app.connected() as connection:
        head = app.head("/api/check").replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nx-imagesieve: 1\r\n")
        connection.sendall(head + b"content-length: 99999999999\r\n\r\n")
        answer = connection.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 413")
    assert app.lives()


def test_a_body_that_does_not_say(app: AppProcess) -> None:
    """Chunks without an end: memory without an end."""
    used = app.bytes_used()
    with app.connected() as connection:
        head = app.head("/api/check").replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nx-imagesieve: 1\r\n")
        connection.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b"\0" * (1 << 20) + b"\r\n"
        sent = 0
        try:
            while sent < 300:
                connection.sendall(chunk)
                sent += 1
        except OSError:
            pass
    assert sent < 200
    assert app.bytes_used() - used < 200 << 20
    assert app.lives()


def test_more_at_once_than_it_takes(app: AppProcess, before: Before) -> None:
    """A queue without an end; who is told to come again is told so in one line."""
    data = before.later["small.jpg"]
    answers: list[Any] = []

    def ask() -> None:
        import httpx2 as httpx

        with httpx.Client(base_url=app.client.base_url, headers=app.client.headers, timeout=60) as client:
            answers.append(client.post("/api/check", content=data, headers={"content-type": "image/jpeg"}))

    threads = [threading.Thread(target=ask) for _ in range(8 * routes.AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = {answer.status_code for answer in answers}
    assert codes == {200, 429}
    told = next(answer for answer in answers if answer.status_code == 429)
    assert "come again" in told.json()["detail"]
    assert told.headers["retry-after"] == "1"
    assert app.lives()


def test_the_door_is_shut_unless_it_is_opened(before: Before, cache: Path) -> None:
    with apps.serving(before.lake, cache) as found:
        assert given(found, before.later["small.jpg"]).status_code in (404, 405)
