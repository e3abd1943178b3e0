"""Several labels an image, from the manifest to the report, the app, the clean set and back."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from imagesieve import transforms
from imagesieve.training import Images
from pyspark.sql import SparkSession

from jobs import config
from jobs.engines.base import of
from jobs.errors import InputError
from jobs.live.changes import Change
from jobs.live.core import Core
from jobs.live.sources.looking import look
from jobs.progress import Reporter
from jobs.serve import gallery, review_files
from tests.e2e import images, lakes
from tests.e2e.test_training_sets import samples_of_tars
from udfs.stores.s3_objects import Limits

NAMES = ("animal/cat", "animal/dog", "car", "tree")
COUNT = 160
SEPARATOR = ("--set", "catalog.label_separator=|")
Labels = dict[str, set[str]]


def picture(number: int, shown: set[str]) -> images.Pixels:
    """A quarter with a texture of its own for each label that is shown, the others parts of a picture unlike all
    others: (96, 128, 3) uint8."""
    rng = np.random.default_rng([number, 77])
    rows, columns = np.mgrid[:48, :64]
    made = images.picture(number, 128, 96).astype(float)
    for place, name in enumerate(NAMES):
        if name not in shown:
            continue
        pace, phase = rng.uniform(0.8, 1.2), rng.uniform(0, 6)
        waves = (np.sin(columns * pace + phase), np.sign(np.sin(rows * pace / 3 + phase)),
                 np.sign(np.sin(columns * pace / 3 + phase) * np.sin(rows * pace / 3)),
                 np.sin(np.hypot(rows - 24, columns - 32) * pace + phase))  # fmt: skip
        top, left = 48 * (place // 2), 64 * (place % 2)
        quarter = rng.uniform(90, 165, 3) + 85 * waves[place][..., None] + rng.normal(0, 10, (48, 64, 3))
        made[top : top + 48, left : left + 64] = quarter
    return np.asarray(made.clip(0, 255), np.uint8)


@dataclass(frozen=True)
class Made:
    manifest: Path
    lake: Path
    given: Labels  # as the manifest has them
    wrong: dict[str, tuple[str, str]]  # image -> detail of the issue, label that is wrong

    def labels(self) -> dict[str, list[str] | None]:
        return {Path(row["uri"]).name: row["labels"] for row in lakes.rows(self.lake, "images")}

    def ids(self) -> dict[int, str]:
        return {row["image_id"]: Path(row["uri"]).name for row in lakes.rows(self.lake, "images")}

    def write(self, given: Labels) -> None:
        with self.manifest.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["uri", "Label", "split"])
            for name, labels in sorted(given.items()):
                table.writerow([name, "|".join(sorted(labels)), ("train", "test")[int(name[:3]) % 4 == 0]])


@pytest.fixture(scope="module")
def made(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Every tenth image has a label too much or lacks one; one image has no labels, of which nothing is known."""
    root = tmp_path_factory.mktemp("label sets")
    draw = np.random.default_rng(4)
    truth = {f"{n:03d}.jpg": {name for name in NAMES if draw.random() < 0.45} or {"tree"} for n in range(COUNT)}
    images.write(root, {name: images.jpeg(picture(int(name[:3]), shown)) for name, shown in truth.items()})
    given, wrong = {name: set(shown) for name, shown in truth.items()}, {}
    for number, name in enumerate(list(truth)[5::10]):
        has, lacks = sorted(truth[name]), [one for one in NAMES if one not in truth[name]]
        if lacks and (number % 2 or len(has) == 1):
            one = lacks[number % len(lacks)]
            wrong[name] = (f"probably not: {one}", one)
            given[name].add(one)
        else:
            one = has[number % len(has)]
            wrong[name] = (f"missing: {one}", one)
            given[name].discard(one)
    given["000.jpg"] = set()
    found = Made(root / "manifest.csv", root / "lake", given, wrong)
    found.write(given)
    lakes.ran(spark, "run", found.manifest, "--lake", found.lake, *SEPARATOR)
    return found


def test_planted_labels_are_named_and_nothing_else(made: Made) -> None:
    """Sets that are lost or misread on their way, wrong ones that are not found, right ones that are."""
    assert made.labels() == {name: sorted(labels) or None for name, labels in made.given.items()}
    assert all(row["label"] is None for row in lakes.rows(made.lake, "images"))
    ids = made.ids()
    found = {
        ids[row["image_id"]]: row for row in lakes.rows(made.lake, "issues") if row["issue"] == "wrong_label"
    }  # fmt: skip
    hits = set(found) & set(made.wrong)
    assert len(hits) >= 0.8 * len(made.wrong)
    assert len(hits) >= 0.8 * len(found)
    assert [found[name]["detail"] for name in sorted(hits)] == [made.wrong[name][0] for name in sorted(hits)]
    assert {(row["suggestion"], row["suggested_label"]) for row in found.values()} == {("review", None)}
    judged = {(ids[row["image_id"]], row["label"]): row for row in lakes.rows(made.lake, "label_sets")}
    assert {key for key, row in judged.items() if row["given"]} == {
        (name, label) for name, labels in made.given.items() for label in labels
    }
    assert {name for (name, _), row in judged.items() if row["flagged"]} == set(found)
    sizes: Counter[str | None] = Counter(label for labels in made.given.values() for label in labels)
    counted: Counter[str | None] = Counter()
    for row in lakes.rows(made.lake, "classes"):
        counted[row["label"]] += row["images"]
    assert counted == Counter[str | None]({**sizes, None: 1})
    counts = lakes.last_counts(made.lake, "labels")
    assert (counts["sets"], counts["judged_set_classes"], counts["flagged_sets"]) == (COUNT - 1, 4, len(found))


def test_the_report_and_the_app_show_all_labels_of_an_image(made: Made) -> None:
    """Classes that count labels as images, an image shown without its labels, a filter that does not find it."""
    gallery_page = next((made.lake / "report").glob("wrong_label*.html")).read_text(encoding="utf-8")
    some = next(name for name, (told, _) in made.wrong.items() if told in gallery_page)
    assert ", ".join(sorted(made.given[some])) in gallery_page
    classes = (made.lake / "report" / "classes.html").read_text(encoding="utf-8")
    assert f"on {COUNT} images" in classes
    assert "Of several, wrong" in classes
    columns = gallery.opened(str(made.lake), gallery.versions(str(made.lake)))
    label, ids = columns.coded("label"), made.ids()
    for name in NAMES:
        rows = np.flatnonzero(label.having([name]))
        assert {ids[int(columns.id[row])] for row in rows} == {n for n, own in made.given.items() if name in own}
    assert [ids[int(columns.id[row])] for row in np.flatnonzero(label.having([""]))] == ["000.jpg"]
    scores = {ids[int(columns.id[row])]: columns.score("label_score", row) for row in range(COUNT)}
    worst = sorted((name for name in scores if scores[name] is not None), key=lambda name: scores[name] or 0.0)
    assert len(set(worst[:8]) & set(made.wrong)) >= 7


def test_reviews_have_all_labels_and_come_back(made: Made, tmp_path: Path) -> None:
    """COCO without some of the labels, or which does not know its own images again."""
    file = tmp_path / "all.json"
    assert review_files.exported(str(made.lake), file, "coco", "") == COUNT
    value = json.loads(file.read_text())
    names = {each["id"]: each["name"] for each in value["categories"]}
    found: Labels = {name: set() for name in made.given}
    ids = made.ids()
    for each in value["annotations"]:
        found[ids[each["image_id"]]].add(names[each["category_id"]])
    assert found == made.given
    lake = tmp_path / "lake"
    lake.symlink_to(made.lake)
    assert review_files.imported(str(lake), file, "anna", "coco") == COUNT - 1
    decided = lakes.rows(made.lake, "reviews")
    assert {row["decision"] for row in decided} == {"keep"}
    assert len(decided) == COUNT - 1
    value["annotations"] = [each for each in value["annotations"] if names[each["category_id"]] != "tree"]
    file.write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"several labels .* that are not those of the image: give one"):
        review_files.imported(str(lake), file, "anna", "coco")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_clean_set_keeps_them_and_is_a_manifest_again(
    made: Made, spark: SparkSession, tmp_path: Path, ending: str
) -> None:
    """Labels that a file loses, an empty set that becomes unknown, a separator that splits what is one label."""
    out = tmp_path / f"clean.{ending}"
    lakes.ran(spark, "clean", "--lake", made.lake, "--out", out, "--set", "clean.remove=[corrupted]")
    lakes.ran(spark, "catalog", out, "--lake", tmp_path / "lake", *(SEPARATOR if ending == "csv" else ()))
    again = {Path(row["uri"]).name: row["labels"] for row in lakes.rows(tmp_path / "lake", "images")}
    assert again == made.labels()


def test_training_sets_hold_them(made: Made, spark: SparkSession, tmp_path: Path) -> None:
    """Images that are trained on as if they had none."""
    rules = ("--set", "clean.remove=[corrupted]", "--shard-images", "100")
    for write in ("webdataset", "parquet"):
        lakes.ran(spark, "clean", "--lake", made.lake, "--write", write, "--to", tmp_path / write, *rules)
    expected = {name: sorted(labels) or None for name, labels in made.given.items()}
    rows = [row for file in (tmp_path / "parquet").glob("*/*.parquet") for row in pq.read_table(file).to_pylist()]
    assert {Path(row["uri"]).name: row["labels"] for row in rows} == expected
    told = [json.loads(sample["json"]) for _, sample in samples_of_tars(tmp_path / "webdataset")]
    assert {Path(row["uri"]).name: row["labels"] for row in told} == expected
    assert json.loads((tmp_path / "parquet" / "training-set.json").read_text())["classes"] == list(NAMES)
    lakes.ran(spark, "clean", "--lake", made.lake, "--out", tmp_path / "kept.csv", "--set", "clean.remove=[corrupted]")
    transform = transforms.load(made.lake)
    for source in (str(made.lake), str(tmp_path / "kept.csv")):
        data = Images(transform, source)
        assert data.classes == list(NAMES)
        names = [Path(row["uri"]).name for row in data._rows.to_pylist()]
        for place in (0, 1, 7, -1):
            labels = made.given[names[place]]
            target = data[place][1]
            assert isinstance(target, np.ndarray)
            assert target.tolist() == [float(one in labels) if labels else -1.0 for one in NAMES]


def test_a_watch_keeps_them(made: Made, spark: SparkSession, tmp_path: Path) -> None:
    """A changed picture that loses its labels or is judged as what it was, a removed one that leaves some behind."""
    lake, changed, gone = tmp_path / "lake", made.manifest.parent / "010.jpg", made.manifest.parent / "020.jpg"
    shutil.copytree(made.lake, lake)
    before, when = changed.read_bytes(), changed.stat().st_mtime_ns
    ids = {name: image_id for image_id, name in made.ids().items()}
    core = Core(str(lake), config.load(), Reporter(), of(spark), at_hand=tmp_path / "at hand")
    try:
        changed.write_bytes(images.jpeg(picture(1010, made.given["010.jpg"])))
        outcome = core.bring([*look([str(changed)], Limits()).changes, Change(str(gone), removed=True)])
    finally:
        changed.write_bytes(before)
        os.utime(changed, ns=(when, when))
        core.close()
    assert (outcome.changed, outcome.removed) == (1, 1)
    now = {Path(row["uri"]).name: row["labels"] for row in lakes.rows(lake, "images")}
    assert now == {name: labels for name, labels in made.labels().items() if name != "020.jpg"}
    judged = {row["image_id"] for row in lakes.rows(lake, "label_sets")}
    assert judged == {ids[name] for name, labels in made.given.items() if labels} - {ids["010.jpg"], ids["020.jpg"]}


def test_other_labels_alone_are_read_without_the_images(made: Made, spark: SparkSession) -> None:
    """Last, for it changes the lake: labels that are put right and are still doubted, or images that are read again."""
    right = {name: set(labels) for name, labels in made.given.items()}
    for name, (_, one) in made.wrong.items():
        right[name] ^= {one}
    right["000.jpg"] = {"tree"}
    made.write(right)
    before = lakes.commits(made.lake, "embeddings")
    lakes.ran(spark, "run", made.manifest, "--lake", made.lake, *SEPARATOR)
    counts = lakes.last_counts(made.lake, "catalog")
    assert (counts["relabelled"], counts["changed"], counts["added"]) == (len(made.wrong) + 1, 0, 0)
    assert made.labels() == {name: sorted(labels) for name, labels in right.items()}
    doubted = [row for row in lakes.rows(made.lake, "issues") if row["issue"] == "wrong_label"]
    assert len(doubted) <= 2
    assert lakes.commits(made.lake, "embeddings") == before


def test_lists_of_shards_are_read_and_a_label_of_the_path_takes_their_place(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Lists in Parquet files of images that nobody sees, or an image with both a label and several."""
    (tmp_path / "in" / "dogs").mkdir(parents=True)
    drawn = [images.jpeg(images.picture(n)) for n in range(3)]
    table = pa.table({"image": drawn, "labels": [["dog", "cat"], None, []]})
    for place in ("all.parquet", "dogs/some.parquet"):
        pq.write_table(table, tmp_path / "in" / place)
    lake = tmp_path / "lake"
    lakes.ran(spark, "catalog", tmp_path / "in", "--lake", lake, "--layout", "{label}/some.parquet/*")
    found = {row["uri"].split("/in/")[1]: (row["label"], row["labels"]) for row in lakes.rows(lake, "images")}
    assert found == {
        "all.parquet!/0": (None, ["cat", "dog"]), "all.parquet!/1": (None, None), "all.parquet!/2": (None, []),
        **{f"dogs/some.parquet!/{n}": ("dogs", None) for n in range(3)},
    }  # fmt: skip
    lakes.ran(spark, "catalog", tmp_path / "in", "--lake", lake, "--layout", "{label}/some.parquet/*")
    assert lakes.last_counts(str(lake), "catalog").get("relabelled", 0) == 0
