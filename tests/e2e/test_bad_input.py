"""Runs that cannot work: one line that says what to do, an exit code by kind, and nothing written."""

import json
import os
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e import images, lakes
from tests.e2e.lakes import Commands
from tests.s3_server import S3Server

USAGE, INPUT, LAKE = 2, 3, 4
SECONDS = 15.0  # Python and boto3 start in three on a busy machine; a hanging look-up takes minutes


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one image and, beside it, manifests."""
    root = tmp_path_factory.mktemp("good")
    images.write(root, {"in/a.jpg": images.jpeg(images.picture(1))})
    return root / "in"


def refused(commands: Commands, lake: Path, code: int, *argv: str | Path) -> str:
    """Runs a command that must be refused with nothing written. Returns its line."""
    ended = commands(*argv, "--lake", lake)
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert not lake.exists(), lakes.files_below(lake)
    return ended.line


def test_folder_without_images(commands: Commands, tmp_path: Path) -> None:
    """Catches a run that calls an empty or wrong folder a success, or leaves an empty lake behind."""
    empty, texts, missing = tmp_path / "empty", tmp_path / "texts", tmp_path / "missing"
    empty.mkdir()
    images.write(texts, {"a.txt": b"a", "sub/b.csv.bak": b"b", "jpg": b"no ending", ".hidden.jpg": b"h"})
    assert "empty" in refused(commands, tmp_path / "lake", INPUT, "run", empty)
    assert "no image" in refused(commands, tmp_path / "lake", INPUT, "run", texts)
    assert "no such file" in refused(commands, tmp_path / "lake", INPUT, "run", missing)
    assert "http" in refused(commands, tmp_path / "lake", INPUT, "run", "http://127.0.0.1/a")


def test_one_bad_input_of_two(commands: Commands, good: Path, tmp_path: Path) -> None:
    """Catches a run that goes on with the inputs that exist: the images of the others would count as deleted."""
    assert "missing" in refused(commands, tmp_path / "lake", INPUT, "run", good, tmp_path / "missing")


def test_the_same_folder_twice(commands: Commands, good: Path, tmp_path: Path) -> None:
    """Catches an image that gets two ids, and a lake made before that was seen."""
    for twice in (f"{good}/", good.parent):
        assert "given twice" in refused(commands, tmp_path / "lake", INPUT, "run", good, twice)


def test_s3_places_that_do_not_exist(commands: Commands, s3: S3Server, good: Path, tmp_path: Path) -> None:
    """Catches boto3's tracebacks, and a lake made before the input was looked at."""
    lake = tmp_path / "lake"
    assert "nothing below" in refused(commands, lake, INPUT, "run", f"s3://{s3.bucket}/no/such/prefix")
    assert "bucket does not exist" in refused(commands, lake, INPUT, "run", "s3://no-such-bucket-here/a")
    ended = commands("run", good, "--lake", "s3://no-such-bucket-here/lake")
    assert (ended.code, "bucket does not exist" in ended.line) == (LAKE, True)
    ended = commands("run", f"s3://{s3.bucket}/none", "--lake", f"s3://{s3.bucket}/not-made")
    assert ended.code == INPUT
    assert s3.client().list_objects_v2(Bucket=s3.bucket, Prefix="not-made").get("KeyCount", 0) == 0


@pytest.mark.parametrize("place", ["input", "lake"])
def test_no_credentials(place: str, s3: S3Server, good: Path, tmp_path: Path) -> None:
    """Catches the minutes that clients wait for an instance role, and a JVM started before credentials are missed."""
    env = {"AWS_ENDPOINT_URL": s3.endpoint, "HOME": str(tmp_path)}
    lake = tmp_path / "lake"
    argv = ["run", f"s3://{s3.bucket}/a", "--lake", str(lake)]
    if place == "lake":
        argv = ["run", str(good), "--lake", f"s3://{s3.bucket}/lake"]
    started = time.monotonic()
    ended = lakes.process(*argv, cwd=tmp_path, env=env, timeout_s=120)
    assert time.monotonic() - started < SECONDS + 2 * os.getloadavg()[0]
    assert ended.code == (INPUT if place == "input" else LAKE)
    assert "no AWS credentials" in ended.line
    assert not lake.exists()


def test_bad_manifests(commands: Commands, good: Path, tmp_path: Path) -> None:
    """Catches manifests that are half read: rows without a URI, two rows of one image, foreign schemes."""
    lake, image = tmp_path / "lake", str(good / "a.jpg")

    def manifest(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    no_uri = manifest("no-uri.csv", "place,label\na.jpg,cat\n")
    line = refused(commands, lake, INPUT, "run", no_uri)
    assert "no column 'uri'" in line
    assert "place, label" in line
    twice = manifest("twice.csv", f"uri\n{image}\nin/../{good}/./a.jpg\nfile://{image}\n".replace("in/../", ""))
    assert "given 3 times" in refused(commands, lake, INPUT, "run", twice)
    assert "no such file" in refused(commands, lake, INPUT, "run", tmp_path / "missing.csv")
    assert "no reference" in refused(commands, lake, INPUT, "run", manifest("empty.csv", "uri\n"))
    scheme = manifest("scheme.jsonl", json.dumps({"uri": "https://example.com/a.jpg"}) + "\n")
    assert "https://example.com/a.jpg" in refused(commands, lake, INPUT, "run", scheme)
    null = manifest("null.jsonl", json.dumps({"uri": image}) + "\n" + json.dumps({"uri": None}) + "\n")
    refused(commands, lake, INPUT, "run", null)
    pq.write_table(pa.table({"url": [image]}), tmp_path / "no-uri.parquet")
    assert "no column 'uri'" in refused(commands, lake, INPUT, "run", tmp_path / "no-uri.parquet")
    for name in ("list.txt", "labels.tsv", "pictures.zip"):
        assert "no kind of input" in refused(commands, lake, INPUT, "run", manifest(name, "a.jpg\n"))
    assert "a single picture" in refused(commands, lake, INPUT, "run", image)
    no_parquet = manifest("text.parquet", "this is not Parquet")
    refused(commands, lake, INPUT, "run", no_parquet)


@pytest.mark.parametrize("layout", ["{split}/{colour}/*", "{label}/{label}/*", "train/*", "{split/x"])
def test_bad_layout(layout: str, commands: Commands, good: Path, tmp_path: Path) -> None:
    """Catches a layout that silently gives no split and no label."""
    assert "--layout" in refused(commands, tmp_path / "lake", USAGE, "run", good, "--layout", layout)


def test_all_faults_of_the_settings_at_once(commands: Commands, good: Path, tmp_path: Path) -> None:
    """Catches a misspelt setting that is passed over, and a user who learns of faults one by one."""
    file = tmp_path / "mine.yaml"
    file.write_text("neighbours:\n  kk: 5\n  probes: 0\nnowhere:\n  a: 1\n")
    line = refused(
        commands, tmp_path / "lake", USAGE, "run", good, "--config", file, "--set", "embed.modell=x", "--set",
        "embed.batch=many", "--set", "nonsense", "--config", tmp_path / "missing.yaml",
    )  # fmt: skip
    for told in ("neighbours.kk", "neighbours.probes must be 1..64", "'nowhere'", "embed.modell", "embed.batch",
                 "'nonsense'", "missing.yaml"):  # fmt: skip
        assert told in line
    (tmp_path / "list.yaml").write_text("- a\n")
    assert "list.yaml" in refused(commands, tmp_path / "lake", USAGE, "run", good, "--config", tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [\n")
    refused(commands, tmp_path / "lake", USAGE, "run", good, "--config", tmp_path / "broken.yaml")


def test_unknown_model(commands: Commands, good: Path, tmp_path: Path) -> None:
    """Catches an unknown model that is found out only after the listing of a lake of millions."""
    line = refused(commands, tmp_path / "lake", USAGE, "run", good, "--set", "embed.model=resnet@7")
    assert "efficientnet-lite0@imagenet-3" in line


@pytest.mark.parametrize("argv", [[], ["sieve"], ["run"], ["embed", "in", "--lake", "x"], ["run", "in", "--lak", "x"]])
def test_wrong_usage(argv: list[str], commands: Commands) -> None:
    """Catches a usage error that ends in a traceback or in success."""
    ended = commands(*argv)
    assert ended.code == USAGE
    assert "usage:" in ended.err
    assert "Traceback" not in ended.err


def test_folder_that_is_no_lake(commands: Commands, good: Path, tmp_path: Path) -> None:
    """Catches tables written among somebody's files, above all into the input folder itself."""
    images.write(tmp_path / "thesis", {"thesis.tex": b"text"})
    ended = commands("run", good, "--lake", tmp_path / "thesis")
    assert (ended.code, "not a lake" in ended.line) == (LAKE, True)
    assert lakes.files_below(tmp_path / "thesis") == ["thesis.tex"]
    ended = commands("run", good, "--lake", good)
    assert (ended.code, "not a lake" in ended.line) == (LAKE, True)
    assert lakes.files_below(good) == ["a.jpg"]
    for place in (good / "a.jpg", good / "a.jpg" / "lake", "/"):
        ended = commands("run", good, "--lake", place)
        assert (ended.code, bool(ended.line)) == (LAKE, True)
    ended = commands("run", good, "--lake", "gs://bucket/lake")
    assert ended.code == USAGE
    assert ended.line


def test_lake_of_a_newer_version(commands: Commands, good: Path, tmp_path: Path) -> None:
    """Catches an old version that writes into tables that it does not understand."""
    marker = json.dumps({"format": 99, "version": "9.9.0", "next_image_id": 7, "next_cluster_id": 1})
    images.write(tmp_path / "lake", {"lake.json": marker.encode()})
    images.write(tmp_path / "broken", {"lake.json": b"{"})
    for command in (["run", good], ["embed"], ["report"]):
        ended = commands(*command, "--lake", tmp_path / "lake")
        assert ended.code == LAKE
        assert "9.9.0" in ended.line
    ended = commands("run", good, "--lake", tmp_path / "broken")
    assert (ended.code, "lake.json" in ended.line) == (LAKE, True)
    assert lakes.files_below(tmp_path / "lake") + lakes.files_below(tmp_path / "broken") == ["lake.json"] * 2


def test_stage_before_its_inputs(commands: Commands, good: Path, tmp_path: Path) -> None:
    """Catches a stage that takes a missing table for an empty one and declares a lake clean."""
    for stage in ("embed", "neighbours", "clusters", "labels", "content", "map", "index", "issues", "report"):
        assert "no lake yet" in refused(commands, tmp_path / "lake", LAKE, stage)
    lake = tmp_path / "catalogued"
    assert commands("catalog", good, "--lake", lake).code == 0
    before = lakes.versions(lake)
    needed = {"neighbours": "embed", "clusters": "embed", "labels": "embed", "content": "embed", "map": "embed",
              "index": "embed", "issues": "embed", "report": "issues"}  # fmt: skip
    for stage, first in needed.items():
        ended = commands(stage, "--lake", lake)
        assert ended.code == LAKE, ended.err
        assert f"run `imagesieve {first}` first" in ended.line
    assert lakes.versions(lake) == before


def test_a_report_inside_an_input_is_no_input(commands: Commands, good: Path, tmp_path: Path) -> None:
    """Catches thumbnails of an earlier report that are sieved with the pictures that they show."""
    folder = tmp_path / "in"
    shutil.copytree(good, folder)
    before = sum(path.is_file() for path in folder.rglob("*.jpg"))
    for _ in range(2):
        ended = commands("run", folder, "--lake", tmp_path / "lake", "--report", folder / "report")
        assert ended.code == 0, ended.err
    assert list((folder / "report" / "thumbs").iterdir())
    assert len(lakes.rows(tmp_path / "lake", "images")) == before
