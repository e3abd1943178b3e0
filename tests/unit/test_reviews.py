"""Catches decisions that are lost, changed or given to another image on their way through files of other programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from jobs.errors import ConfigError, InputError
from jobs.reviews import formats, rows
from jobs.serve import gallery, review_files
from jobs.serve.batches import Batch
from tests.bench import serve_lake

IMAGES = 200
NOTE = 'it says "x",\n<b>and</b> ümlaut'
FILES = {"csv": "d.csv", "parquet": "d.parquet", "jsonl": "d.jsonl", "coco": "coco.json", "label-studio": "tasks.json",
         "fiftyone": "labels.json"}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Path]:
    def made(name: str) -> Path:
        serve_lake.write(tmp_path / name, IMAGES, labels=5)
        return tmp_path / name

    return made


@pytest.fixture
def lake(make: Callable[[str], Path]) -> Path:
    """With five decisions, one of them changed and one taken back."""
    found = make("lake")
    columns, decisions = review_files._opened(str(found))
    decisions.decide([1, 2, 3], "remove", "anna", note=NOTE)
    decisions.decide([3], "keep", "ben")
    decisions.decide([4], "relabel", "ben", "a, \"b\" & 'c'")
    decisions.decide([5], "skip", "anna")
    decisions.decide([6], "remove", "ben")
    decisions.undo("ben")
    decisions.decide([5], "note", "anna", note="hm")
    decisions.close()
    assert columns.images == IMAGES
    return found


DECIDED = {1: ("remove", None, NOTE), 2: ("remove", None, NOTE), 3: ("keep", None, None),
           4: ("relabel", "a, \"b\" & 'c'", None), 5: ("skip", None, None)}  # fmt: skip


def decided(lake: Path) -> dict[int, tuple[str, str | None, str | None]]:
    columns, decisions = review_files._opened(str(lake))
    decisions.close()
    effective, batches = decisions.effective()
    return {
        int(columns.id[row]): (
            batches[effective[row]].decision,
            batches[effective[row]].label,
            batches[effective[row]].note,
        )
        for row in np.flatnonzero(effective >= 0)
    }


def uris(lake: Path) -> dict[int, str]:
    columns = gallery.opened(str(lake), gallery.versions(str(lake)))
    return {int(columns.id[row]): columns.uri(row) for row in range(columns.images)}


def exported(lake: Path, file: Path, *options: str) -> None:
    assert review_files.main(["export", str(file), "--lake", str(lake), *options]) == 0


def imported(lake: Path, file: Path, *options: str) -> None:
    assert review_files.main(["import", str(file), "--lake", str(lake), "--user", "carl", *options]) == 0


@pytest.mark.parametrize("form", formats.NAMES)
@pytest.mark.parametrize("is_told", [True, False])
def test_there_and_back(lake: Path, make: Callable[[str], Path], tmp_path: Path, form: str, is_told: bool) -> None:
    """A decision, label or note that a format loses, another image's, and many commits where one does."""
    file = tmp_path / FILES[form]
    exported(lake, file, "--format", form)
    assert not list(tmp_path.glob(".*.draft"))
    other = make("other")
    imported(other, file, *(["--format", form] if is_told else []))
    assert decided(other) == decided(lake) == DECIDED
    table = DeltaTable(str(other / "reviews"))
    assert table.version() == 1
    assert set(table.to_pyarrow_table()["by"].to_pylist()) == {"carl"}


def test_coco_as_it_is_documented(lake: Path, make: Callable[[str], Path], tmp_path: Path) -> None:
    """Our file is none that others read: ids that are not unique, annotations of images that go, categories that are
    not there. And theirs, without our field: a label that is the image's own keeps it, another relabels it."""
    exported(lake, tmp_path / "c.json", "--format", "coco")
    value = json.loads((tmp_path / "c.json").read_text())
    assert {image["id"] for image in value["images"]} == set(DECIDED)
    assert {each["image_id"] for each in value["annotations"]} == {3, 4}
    names = {each["id"]: each["name"] for each in value["categories"]}
    assert {each["image_id"]: names[each["category_id"]] for each in value["annotations"]}[4] == "a, \"b\" & 'c'"
    assert len({each["id"] for each in value["annotations"]}) == 2
    assert {"bbox", "area", "iscrowd", "segmentation"} <= set(value["annotations"][0])

    other = make("other")
    at = uris(other)
    columns = gallery.opened(str(other), gallery.versions(str(other)))
    own = "".join(columns.coded("label").of(9))
    theirs = {
        "info": {"description": "COCO 2017 Dataset", "url": "http://cocodataset.org", "version": "1.0", "year": 2017},
        "licenses": [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution License"}],
        "images": [
            {"license": 4, "file_name": at[9].rpartition("/")[2], "height": 427, "width": 640, "id": 397133},
            {"license": 4, "file_name": at[8], "height": 230, "width": 352, "id": 37777},
            {"license": 4, "file_name": "000000087038.jpg", "height": 480, "width": 640, "id": 87038},
        ],
        "annotations": [
            {"segmentation": [[1, 2, 3, 4]], "area": 702.1, "iscrowd": 0, "image_id": 397133,
             "bbox": [473, 395, 38, 28], "category_id": 18, "id": 1768},
            {"segmentation": [], "area": 7.5, "iscrowd": 0, "image_id": 397133, "bbox": [1.5, 2, 3, 4],
             "category_id": 18, "id": 1769},
            {"segmentation": [], "area": 1, "iscrowd": 0, "image_id": 37777, "bbox": [0, 0, 1, 1], "category_id": 17,
             "id": 1770},
        ],
        "categories": [{"supercategory": "animal", "id": 17, "name": "cat"},
                       {"supercategory": "", "id": 18, "name": own}],
    }  # fmt: skip
    (tmp_path / "theirs.json").write_text(json.dumps(theirs))
    imported(other, tmp_path / "theirs.json")
    assert decided(other) == {9: ("keep", None, None), 8: ("relabel", "cat", None)}


def test_label_studio_as_it_is_documented(lake: Path, make: Callable[[str], Path], tmp_path: Path) -> None:
    """Tasks without our finding, with it as a decision, or of few images. And an export of theirs: the last annotation
    that was not cancelled, a class as a label, a file by the address that their server shows it by."""
    exported(lake, tmp_path / "t.json", "--format", "label-studio")
    tasks = {task["data"]["image_id"]: task for task in json.loads((tmp_path / "t.json").read_text())}
    columns = gallery.opened(str(lake), gallery.versions(str(lake)))
    found = {int(columns.id[row]) for row in np.flatnonzero(columns.coded("issue").codes)}
    assert set(tasks) == found | set(DECIDED)
    assert {i for i, task in tasks.items() if "annotations" in task} == set(DECIDED)
    for image_id, task in tasks.items():
        suggestion = "".join(columns.coded("suggestion").of(image_id))
        values = [each["value"]["choices"] for one in task.get("predictions", ()) for each in one["result"]]
        expected = {"remove": [["remove"]], "relabel": [["relabel"], list(columns.coded("suggested").of(image_id))]}
        assert values == expected.get(suggestion, []), image_id
        assert task["data"]["image"].startswith(("/data/local-files/?d=", "s3://"))

    other = make("other")
    at = uris(other)

    def annotation(updated: str, cancelled: bool, *results: dict[str, Any]) -> dict[str, Any]:
        return {"id": 1001, "result": list(results), "was_cancelled": cancelled, "ground_truth": False,
                "created_at": "2021-03-09T22:16:08.728353Z", "updated_at": updated, "lead_time": 4.288, "task": 1,
                "completed_by": 10}  # fmt: skip

    def choice(tag: str, *values: str) -> dict[str, Any]:
        return {"from_name": tag, "id": "Dx_aB91ISN", "to_name": "image", "type": "choices", "origin": "manual",
                "value": {"choices": list(values)}}  # fmt: skip

    box = {"from_name": "tag", "id": "x", "to_name": "img", "type": "rectanglelabels", "value": {"x": 50.8, "y": 5.8}}
    theirs = [
        {"id": 1, "project": 83, "data": {"image": "/data/local-files/?d=" + at[9].lstrip("/")}, "predictions": [],
         "annotations": [annotation("2021-03-09T22:16:08Z", False, choice("choice", "cat"), box),
                         annotation("2021-03-08T22:16:08Z", False, choice("choice", "dog")),
                         annotation("2021-03-10T22:16:08Z", True, choice("choice", "cow"))]},
        {"id": 2, "project": 83, "data": {"image": at[8]}, "predictions": [],
         "annotations": [annotation("2021-03-09T22:16:08Z", False, choice("decision", "remove"))]},
        {"id": 3, "project": 83, "data": {"image": "https://example.com/1.jpg"}, "annotations": [], "predictions": []},
        {"id": 4, "project": 83, "data": {"image": "https://example.com/2.jpg"}, "predictions": [],
         "annotations": [annotation("2021-03-09T22:16:08Z", False, box)]},
    ]  # fmt: skip
    (tmp_path / "theirs.json").write_text(json.dumps(theirs))
    imported(other, tmp_path / "theirs.json")
    assert decided(other) == {9: ("relabel", "cat", None), 8: ("remove", None, None)}


def test_fiftyone_as_it_is_documented(lake: Path, make: Callable[[str], Path], tmp_path: Path) -> None:
    """Names that FiftyOne does not find, targets that are numbers of classes that are not there. And theirs: names with
    folders and without an ending, numbers of classes, none."""
    exported(lake, tmp_path / "labels.json", "--format", "fiftyone")
    value = json.loads((tmp_path / "labels.json").read_text())
    at = uris(lake)
    assert set(value) == {"labels"}
    assert set(value["labels"]) == {at[image_id] for image_id in DECIDED}
    assert value["labels"][at[4]]["label"] == "a, \"b\" & 'c'"
    assert value["labels"][at[1]]["attributes"]["decision"] == "remove"

    other = make("other")
    stem = at[9].rpartition("/")[2].rpartition(".")[0]
    theirs = {"classes": ["cat", "dog"],
              "labels": {stem: 1, at[8]: {"label": 0, "confidence": 0.9, "attributes": {"iscrowd": 0.0}},
                         "train/none": None}}  # fmt: skip
    (tmp_path / "theirs.json").write_text(json.dumps(theirs))
    imported(other, tmp_path / "theirs.json")
    assert decided(other) == {9: ("relabel", "dog", None), 8: ("relabel", "cat", None)}


def test_a_view_is_exported(lake: Path, tmp_path: Path) -> None:
    """A filter that is passed over."""
    exported(lake, tmp_path / "d.csv", "--where", "decision=keep&decision=skip")
    exported(lake, tmp_path / "all.jsonl", "--where", "")
    assert (tmp_path / "d.csv").read_text().count("\n") == 3
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == IMAGES
    with pytest.raises(InputError, match="takes no searches"):
        exported(lake, tmp_path / "x.csv", "--where", "words=dog")
    with pytest.raises(InputError, match="--where: issue"):
        exported(lake, tmp_path / "x.csv", "--where", "issue=nosuch")
    assert not (tmp_path / "x.csv").exists()


def test_another_lakes_ids_are_not_taken_for_ours(make: Callable[[str], Path], tmp_path: Path) -> None:
    """A decision that lands on an image of the same number in another lake."""
    other = make("other")
    at = uris(other)
    lines = [{"uri": at[7], "image_id": 3, "decision": "keep"}, {"uri": None, "image_id": 4, "decision": "skip"},
             {"uri": f"s3://elsewhere/{at[5].rpartition('/')[2]}", "image_id": 5, "decision": "remove"}]  # fmt: skip
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, lines)))
    imported(other, tmp_path / "d.jsonl")
    assert decided(other) == {7: ("keep", None, None), 4: ("skip", None, None), 5: ("remove", None, None)}
    (tmp_path / "d.jsonl").write_text(json.dumps({"uri": "/b/x.jpg", "image_id": 3, "decision": "keep"}))
    with pytest.raises(InputError, match=r"image 3 of this lake is .*, not /b/x.jpg; nothing was written"):
        imported(other, tmp_path / "d.jsonl")


HOSTILE: list[tuple[str, Any, str]] = [
    ("coco", [], "is no coco file"),
    ("coco", {"images": [5], "annotations": []}, r"images\[0\]: must be an object"),
    ("coco", {"images": [{"id": "1", "file_name": "a"}], "annotations": []}, r"images\[0\]\.id: must be a whole"),
    ("coco", {"images": [{"id": True, "file_name": "a"}], "annotations": []}, r"\.id: must be a whole number"),
    ("coco", {"images": [{"id": 1}], "annotations": []}, r"images\[0\]\.file_name: is missing"),
    ("coco", {"images": [], "annotations": {}}, "annotations: must be a list"),
    ("coco", {"images": [], "annotations": [{"image_id": 1, "category_id": 7}]}, r"annotations\[0\].*no category 7"),
    ("coco", {"images": [{"id": 1, "file_name": "a", "imagesieve": 5}], "annotations": []}, "imagesieve: must be"),
    ("coco", {"images": [{"id": 1, "file_name": "x" * 5000}], "annotations": []}, "more than 4096 characters"),
    ("coco", {"images": [{"id": 1, "file_name": "/a", "imagesieve": {"image_id": 1 << 70, "decision": "keep"}}],
              "annotations": []}, "no such image"),
    ("label-studio", {"data": 1}, "is no label-studio file"),
    ("label-studio", [{"data": 5}], r"task\[0\]\.data: must be an object"),
    ("label-studio", [{"data": {}, "annotations": [{"result": 5}]}], r"result: must be a list"),
    ("label-studio", [{"data": {}, "annotations": 5}], r"annotations: must be a list"),
    ("label-studio", [{"data": {}, "annotations": [{"result": [
        {"type": "choices", "from_name": "c", "value": {"choices": ["a", "b"]}}]}]}], "more than one choice"),
    ("label-studio", [{"data": {}, "annotations": [{"result": [
        {"type": "choices", "from_name": "c", "value": {"choices": [5]}}]}]}], "choices: must be a list of texts"),
    ("label-studio", [{"data": {"image": "a"}, "annotations": [{"result": [
        {"type": "choices", "from_name": "decision", "value": {"choices": ["burn"]}}]}]}], "no such image"),
    ("fiftyone", {"labels": []}, "is no fiftyone file"),
    ("fiftyone", {"labels": {"a": 1}}, r"labels\['a'\]: must be a text"),
    ("fiftyone", {"classes": ["x"], "labels": {"a": 7}}, "number of one of 1 classes"),
    ("fiftyone", {"classes": [1], "labels": {}}, "classes: must be a list of texts"),
    ("fiftyone", {"labels": {"a": {"label": "x", "attributes": 5}}}, "attributes: must be an object"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "value", "told"), HOSTILE)
def test_what_is_wrong_is_one_line_with_the_place(
    make: Callable[[str], Path], tmp_path: Path, form: str, value: Any, told: str
) -> None:
    """A traceback, a place that nobody finds, or a part that is written."""
    lake = make("lake")
    (tmp_path / "f.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=told) as raised:
        imported(lake, tmp_path / "f.json", "--format", form)
    assert "\n" not in str(raised.value)
    assert not (lake / "reviews").exists()


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"[" * 200_000, "no JSON"), (b"\xff\xfe{", "no JSON"), (b"{", "no JSON"), (b"5", "is none of"), (b"", "no JSON"),
     (b'{"a": ' + b"9" * 10_000 + b"}", "no JSON"), (b"x" * 300, "no JSON")],
)  # fmt: skip
def test_files_that_are_none(make: Callable[[str], Path], tmp_path: Path, data: bytes, told: str) -> None:
    """A bomb of brackets or digits, and another encoding."""
    (tmp_path / "f.json").write_bytes(data)
    with pytest.raises(InputError, match=told):
        imported(make("lake"), tmp_path / "f.json")


def test_one_image_twice(make: Callable[[str], Path], tmp_path: Path) -> None:
    """Two decisions of one image, of which one or the other counts by chance."""
    lake = make("lake")
    at = uris(lake)
    same = [{"uri": at[7], "decision": "keep"}, {"uri": at[7].rpartition("/")[2], "decision": "keep"}]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, same)))
    imported(lake, tmp_path / "d.jsonl")
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, [same[0], {"uri": at[7], "decision": "skip"}])))
    with pytest.raises(InputError, match="row 2: is decided in another way before"):
        imported(lake, tmp_path / "d.jsonl")
    assert decided(lake) == {7: ("keep", None, None)}


def test_nothing_to_import_writes_nothing(make: Callable[[str], Path], tmp_path: Path) -> None:
    """A commit of no rows, or a fault where there is none."""
    lake = make("lake")
    (tmp_path / "f.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "a"}], "annotations": []}))
    imported(lake, tmp_path / "f.json")
    assert not (lake / "reviews").exists()


def test_sizes_are_capped_and_names_checked(lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that fills the memory, and an ending that is guessed."""
    monkeypatch.setattr(rows, "MOST_JSON", 100)
    (tmp_path / "f.json").write_text(" " * 101)
    with pytest.raises(InputError, match="more than 100 bytes"):
        imported(lake, tmp_path / "f.json")
    for wrong in ("f.json", "f.txt", "f"):
        with pytest.raises(ConfigError, match="FILE: must end in"):
            exported(lake, tmp_path / wrong)
    with pytest.raises(ConfigError, match="FILE: must end in"):
        imported(lake, tmp_path / "f.txt")
    with pytest.raises(InputError, match="No such file"):
        imported(lake, tmp_path / "none.json")
    with pytest.raises(ConfigError, match="goes with export"):
        imported(lake, tmp_path / "f.json", "--where", "")


def test_no_image_is_looked_for_in_every_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that takes the square of the decisions: of large batches each image was looked for in all of them."""
    lake = tmp_path / "lake"
    serve_lake.write(lake, 6000, labels=5)
    _, decisions = review_files._opened(str(lake))
    for decision in ("remove", "keep"):
        decisions.decide(np.arange(6000), decision, "anna")
    decisions.close()
    read: list[str] = []

    def reading(batch: Batch, name: str) -> Any:
        read.append(name)
        return object.__getattribute__(batch, name)

    monkeypatch.setattr(Batch, "__getattribute__", reading)
    exported(lake, tmp_path / "d.parquet")
    assert pq.read_table(tmp_path / "d.parquet")["decision"].to_pylist() == ["keep"] * 6000
    assert read.count("ids") <= 20


def test_nothing_is_half_written(lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that fails and leaves half of a file in the place of a whole one."""
    file = tmp_path / "d.jsonl"
    exported(lake, file)
    whole = file.read_bytes()

    def broken(*_: Any) -> Iterator[Any]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(review_files, "_decided", broken)
    with pytest.raises(InputError, match="No space left"):
        exported(lake, file)
    assert file.read_bytes() == whole
    assert sorted(tmp_path.glob("*d.jsonl*")) == [file]
