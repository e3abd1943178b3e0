"""A lake tells how its vectors were made, and gives its images to training and to services."""

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from imagesieve import transforms
from PIL import Image

from jobs.errors import ConfigError
from jobs.serve import command
from tests.e2e import apps, lakes
from tests.e2e.conftest import Labelled
from tests.e2e.lakes import ROOT
from udfs.transforms import square

EXAMPLES = re.findall(
    r"^```py\n(.*?)^```$", (ROOT / "docs" / "transforms.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
)


def test_the_examples_run(labelled: Labelled, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an example that does not run. That of torch is tests/unit/test_transforms.py's."""
    names: dict[str, Any] = {}
    for text in (text for text in EXAMPLES if "imagesieve-demo/lake" in text):
        exec(compile(text.replace("imagesieve-demo/lake", str(labelled.lake)), "transforms.md", "exec"), names)
    assert "(3, 224, 224)" in capsys.readouterr().out
    assert set(names["handler"]({"image": "/9j/"}, None)) == {"error"}


def test_every_vector_has_the_fingerprint(labelled: Labelled) -> None:
    """Vectors of which nobody knows how they were made; one that is the driver's and not the worker's would pass here,
    for both are this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transform = transforms.load(labelled.lake, strict=True)
    rows = lakes.table(labelled.lake, "embeddings").to_pyarrow_table(columns=["model", "transform"])
    assert pc.unique(rows["transform"]).to_pylist() == [transform.fingerprint]
    assert pc.unique(rows["model"]).to_pylist() == [transform.model.key]


def test_another_preprocessing_is_told(labelled: Labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(square, "CODE", 9)
    with pytest.warns(
        transforms.TransformWarning, match=f"^{labelled.lake}: .*: [0-9]+ vectors: code 1 there and 9 here$"
    ):
        transforms.load(labelled.lake)
    with pytest.raises(ConfigError, match="code 1 there and 9 here"):
        transforms.load(labelled.lake, strict=True)


def test_the_images_of_a_lake_and_of_a_clean_set(labelled: Labelled, commands: lakes.Commands, tmp_path: Path) -> None:
    """Items that lose their labels, splits that mix, numbers of labels that differ between splits, images that could
    not be read, and a clean set in another format that holds others."""
    transform = transforms.load(labelled.lake)
    whole = transforms.Images(transform, labelled.lake)
    rows = lakes.table(labelled.lake, "images").to_pandas().sort_values("image_id")
    failed = lakes.table(labelled.lake, "failures").to_pandas()["image_id"]
    rows = rows[~rows["image_id"].isin(failed)]
    assert len(whole) == len(rows)
    assert whole.classes == sorted(rows["label"].dropna().unique())
    for number in (0, len(whole) - 1):
        array, label = whole[number]
        assert np.array_equal(array, transform(rows["uri"].iloc[number]))
        assert whole.classes[label] == rows["label"].iloc[number]
    splits = [split for split in rows["split"].unique() if split]
    parts = [transforms.Images(transform, labelled.lake, split=split) for split in splits]
    assert sum(map(len, parts)) == len(whole)
    assert {tuple(part.classes) for part in parts} == {tuple(whole.classes)}
    lengths = set()
    for ending in ("csv", "parquet", "jsonl"):
        commands("clean", "--lake", labelled.lake, "--out", tmp_path / f"kept.{ending}")
        kept = transforms.Images(transform, tmp_path / f"kept.{ending}", classes=whole.classes)
        assert 0 < len(kept) < len(whole)
        lengths.add((len(kept), kept[0][1], kept[0][0].tobytes()))
    assert len(lengths) == 1


def test_variants_over_http(labelled: Labelled, tmp_path: Path) -> None:
    """A route without the token, one that answers with the file itself, and variants that are not kept where they were
    to be."""
    kept = tmp_path / "variants"
    with apps.serving(labelled.lake, tmp_path / "cache", "--read-only", "--variants", str(kept)) as app:
        row = next(row for row in app.get("/api/rows")["rows"] if row["readable"])
        path = f"/api/variant/{row['id']}?width=32&height=32&fit=cover&format=webp"
        answer = app.client.get(path)
        assert answer.headers["content-type"] == "image/webp"
        assert answer.headers["cache-control"] == "private, max-age=86400"
        assert Image.open(io.BytesIO(answer.content)).size == (32, 32)
        (file,) = kept.glob("*/*.webp")
        assert file.parent.name == str(row["id"])
        file.write_bytes(b"from the folder")
        assert app.client.get(path).content == answer.content  # in memory
        bad = app.client.get(f"/api/variant/{row['id']}?width=100000")
        assert (bad.status_code, bad.text) == (400, "width: must be 1..4096, got 100000")
        assert app.client.get("/api/variant/999999?width=3").status_code == 404
        assert app.client.get(path, headers={"authorization": ""}).status_code == 401


def test_a_folder_of_other_things_is_no_place_for_variants(labelled: Labelled, tmp_path: Path) -> None:
    """Files of a person that are deleted as old variants."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "holiday.jpg").write_bytes(b"x")
    for place, said in ((tmp_path, "not empty"), (labelled.lake / "variants", "apart from the lake")):
        with pytest.raises(ConfigError, match=said):
            command.main(["--lake", str(labelled.lake), "--no-browser", "--port", "0", "--variants", str(place)])
    assert (tmp_path / "1" / "holiday.jpg").exists()
