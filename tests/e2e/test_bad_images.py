"""One lake of bad, unusual and strangely named images: each ends in embeddings or in failures, and the run goes on."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.e2e import images, lakes
from tests.e2e.lakes import Commands
from udfs import errors
from udfs.stores import uris

TOO_MANY_FAILURES, LAKE = 6, 4
HOSTILE_BAD = "<img src=x onerror=alert(2)>.jpg"
HOSTILE_COPY = "<img src=x onerror=alert(3)>.jpg"


@dataclass(frozen=True)
class Zoo:
    folder: Path
    lake: Path
    good: dict[str, tuple[str, tuple[int, int]]]
    bad: dict[str, str]

    def name(self, uri: str) -> str:
        return uris.relative(uri, str(self.folder))


@pytest.fixture(scope="module")
def zoo(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """The zoo after `catalog`, `embed` and then `run`, with the stages that must be refused in between."""
    root = tmp_path_factory.mktemp("zoo")
    bad, odd = images.bad_files(), images.odd_files()
    bad[HOSTILE_BAD] = (b"GIF? no.", "not_an_image")
    strange = {name: images.jpeg(images.picture(500 + n)) for n, name in enumerate(images.STRANGE_NAMES)}
    strange[HOSTILE_COPY] = strange["two words.jpg"]
    folder = images.write(root / "zoo 100%#", {name: data for name, (data, _) in bad.items()})
    images.write(folder, {name: data for name, (data, _, _) in odd.items()} | strange)
    (Path(str(folder).encode().decode()) / images.NOT_UTF8.decode("utf-8", "surrogateescape")).write_bytes(
        images.jpeg(images.picture(600))
    )
    good = {name: (kind, size) for name, (_, kind, size) in odd.items()}
    good |= dict.fromkeys([*strange, "latin-%E9.jpg"], ("jpeg", (96, 72)))
    lakes.ran(spark, "catalog", folder, "--lake", root / "lake")
    lakes.ran(spark, "embed", "--lake", root / "lake")
    return Zoo(folder, root / "lake", good, {name: code for name, (_, code) in bad.items()})


@pytest.fixture(scope="module")
def sieved(zoo: Zoo, spark: SparkSession) -> Zoo:
    lakes.ran(spark, "run", zoo.folder, "--lake", zoo.lake)
    return zoo


def test_clusters_before_neighbours(zoo: Zoo, commands: Commands) -> None:
    """Catches a stage that takes a missing table for an empty one: no duplicates found, all clean."""
    before = lakes.versions(zoo.lake)
    for stage in ("clusters", "issues"):
        ended = commands(stage, "--lake", zoo.lake)
        assert ended.code == LAKE, ended.err
        assert "run `imagesieve" in ended.line
    assert lakes.versions(zoo.lake) == before


def test_each_image_ends_somewhere(sieved: Zoo) -> None:
    """Catches a lost image, an image in two tables, a code outside the closed list, and names that are escaped or
    unescaped once too often (their files would not be found)."""
    names = {row["image_id"]: sieved.name(row["uri"]) for row in lakes.rows(sieved.lake, "images")}
    features = {names[row["image_id"]]: row for row in lakes.rows(sieved.lake, "features")}
    embedded = [names[row["image_id"]] for row in lakes.rows(sieved.lake, "embeddings")]
    failed = {names[row["image_id"]]: row["error"] for row in lakes.rows(sieved.lake, "failures")}
    assert failed == sieved.bad
    assert set(failed.values()) <= set(errors.CODES)
    assert sorted(embedded) == sorted(features) == sorted(sieved.good)
    assert {n: (r["format"], (r["width"], r["height"])) for n, r in features.items()} == sieved.good
    counts = lakes.last_counts(sieved.lake, "embed")
    assert counts["in"] == counts["out"] + counts["failed"] == len(names)


def test_failures_are_issues(sieved: Zoo) -> None:
    """Catches spoilt images that the table of issues does not name."""
    names = {row["image_id"]: sieved.name(row["uri"]) for row in lakes.rows(sieved.lake, "images")}
    found = [row for row in lakes.rows(sieved.lake, "issues") if row["issue"] in ("corrupted", "unread")]
    assert sorted(names[row["image_id"]] for row in found) == sorted(sieved.bad)
    assert {(row["issue"], row["suggestion"]) for row in found} == {("corrupted", "remove"), ("unread", "review")}


def test_report_escapes_names(sieved: Zoo) -> None:
    """Catches a file name that becomes HTML in one of the pages."""
    pages = sorted((sieved.lake / "report").rglob("*.html"))
    text = {page.name: page.read_text(encoding="utf-8") for page in pages}
    assert "index.html" in text
    assert not [name for name, page in text.items() if re.search(r"<img[^>]*(src=.?x\b|onerror)", page)]
    assert any("&lt;img src=x onerror=alert(2)" in page for page in text.values())
    assert any("&lt;img src=x onerror=alert(3)" in page for page in text.values())


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_report_in_a_browser(sieved: Zoo, tmp_path: Path) -> None:
    """Catches what only a browser shows: a name that becomes an element, a page that does not load."""
    pages = sorted((sieved.lake / "report").glob("*.html"))
    hostile = [page for page in pages if "onerror=alert(" in page.read_text(encoding="utf-8")]
    assert len(hostile) >= 2
    for page in [sieved.lake / "report" / "index.html", *hostile[:3]]:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]  # fmt: skip
        shown = subprocess.run(
            ["chromium", *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
        ).stdout
        assert "</html>" in shown
        assert "ERR_" not in shown
        assert not re.search(r"<img[^>]*(src=.?x\b|onerror)", shown)
        if page in hostile:
            assert "&lt;img src=x onerror=alert(" in shown


@pytest.mark.slow
def test_too_many_failures(commands: Commands, tmp_path: Path) -> None:
    """Catches a run on the wrong files that ends well; and one that cannot end where nothing could be embedded."""
    folder = images.write(tmp_path / "in", {f"{n:02d}.jpg": b"text %d" % n for n in range(20)})
    ended = commands("run", folder, "--lake", tmp_path / "lake")
    assert ended.code == TOO_MANY_FAILURES
    assert "20 of 20 images failed, most of them not_an_image" in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err
    assert len(lakes.rows(tmp_path / "lake", "failures")) == 20
    # Again: what was read is kept, and the answer is the same.
    again = commands("run", folder, "--lake", tmp_path / "lake")
    assert again.code == TOO_MANY_FAILURES
    ended = commands("run", folder, "--lake", tmp_path / "lake", "--set", "embed.max_failed_share=1")
    assert ended.code == 0, ended.err
    assert "20 failed: 20 not_an_image" in ended.out
    assert (tmp_path / "lake" / "report" / "index.html").is_file()
