"""The planted images of the demo: the truth must be true of the files."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from jobs.demo.edits import EDITS
from jobs.demo.judge import PAIRED, Planted
from jobs.demo.plant import BREAKERS, FULL, plant, read_truth
from jobs.demo.scenes import OUTLIERS


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Planted]]:
    """The lake of seed 0, written once, and its truth."""
    folder = tmp_path_factory.mktemp("demo") / "images"
    return folder, plant(folder)


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The decoded image, (h, w, 3) uint8."""
    return np.asarray(Image.open(path).convert("RGB"))


def entropy(light: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Bits in the histogram of gray values."""
    share = np.bincount(light.astype(np.uint8).ravel(), minlength=256) / light.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


def of_kind(truth: list[Planted], kind: str) -> list[Planted]:
    return [entry for entry in truth if entry.kind == kind and entry.required]


def test_lake_has_every_kind_in_its_number(lake: tuple[Path, list[Planted]]) -> None:
    folder, truth = lake
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert 450 <= len(files) <= 550
    assert {path.relative_to(folder).parts[0] for path in files} == {"train", "test"}
    counts = {kind: len(of_kind(truth, kind)) for kind in {entry.kind for entry in truth if entry.required}}
    exact_leaks = FULL.leaks.count("bytes")
    assert counts == {
        **FULL.single,
        "outlier": len(OUTLIERS),
        "flat": FULL.flat - 2,
        "corrupted": 2 * len(BREAKERS),
        "exact_duplicate": len(FULL.exact) + 2 + exact_leaks,
        "near_duplicate": 8 * len(EDITS) + 2 + len(FULL.leaks) - exact_leaks,
        "leak": len(FULL.leaks),
    }
    assert {entry.detail for entry in of_kind(truth, "near_duplicate")} == set(EDITS)


def test_every_path_of_the_truth_exists_and_one_image_has_one_trouble(lake: tuple[Path, list[Planted]]) -> None:
    folder, truth = lake
    for entry in truth:
        assert (folder / entry.path).is_file()
        assert entry.evidence is None or (folder / entry.evidence).is_file()
        assert (entry.evidence is not None) == (entry.kind in PAIRED)
    paired = {path for entry in truth if entry.kind in PAIRED for path in (entry.path, entry.evidence)}
    single = [entry.path for entry in truth if entry.kind not in PAIRED and entry.required]
    assert len(single) == len(set(single))
    assert not paired & set(single)


def test_truth_is_written_beside_the_folder(lake: tuple[Path, list[Planted]]) -> None:
    folder, truth = lake
    assert read_truth(folder.parent / "truth.json") == truth


def test_exact_duplicates_have_equal_pixels_and_some_have_other_bytes(lake: tuple[Path, list[Planted]]) -> None:
    folder, truth = lake
    same_bytes = set()
    for entry in of_kind(truth, "exact_duplicate"):
        one, other = folder / entry.path, folder / str(entry.evidence)
        assert np.array_equal(pixels(one), pixels(other)), entry
        same_bytes.add((entry.detail, one.read_bytes() == other.read_bytes()))
    assert same_bytes == {("bytes", True), ("comment", False), ("compression", False)}


def test_near_duplicates_differ_in_pixels(lake: tuple[Path, list[Planted]]) -> None:
    folder, truth = lake
    for entry in of_kind(truth, "near_duplicate"):
        assert not np.array_equal(pixels(folder / entry.path), pixels(folder / str(entry.evidence))), entry


def test_leaks_cross_the_splits_and_are_duplicates_too(lake: tuple[Path, list[Planted]]) -> None:
    _, truth = lake
    pairs = {(entry.path, entry.evidence) for entry in truth if entry.kind in ("exact_duplicate", "near_duplicate")}
    leaks = {(entry.path, entry.evidence) for entry in of_kind(truth, "leak")}
    assert leaks <= pairs
    crossing = {(path, other) for path, other in pairs if path.split("/")[0] != str(other).split("/")[0]}
    assert crossing == leaks
    assert all(path.startswith("test/") and str(other).startswith("train/") for path, other in leaks)


def test_broken_files_cannot_be_decoded_and_all_others_can(lake: tuple[Path, list[Planted]]) -> None:
    folder, truth = lake
    broken = {entry.path for entry in of_kind(truth, "corrupted")}
    for path in sorted(folder.rglob("*.*")):
        data, name = path.read_bytes(), path.relative_to(folder).as_posix()
        if name in broken:
            with pytest.raises((OSError, SyntaxError)):
                Image.open(BytesIO(data)).convert("RGB")
        else:
            Image.open(BytesIO(data)).convert("RGB")


def test_measures_set_the_planted_apart_from_the_rest(lake: tuple[Path, list[Planted]]) -> None:
    """A normal picture that is dark, bright, blurry, flat, gray or of an odd shape would make the truth wrong."""
    folder, truth = lake
    marked = {entry.path: entry.kind for entry in truth if entry.kind not in PAIRED and entry.required}
    marked |= {entry.path: "low_information" for entry in truth if entry.kind == "flat"}  # all have few grey levels
    for path in sorted(folder.rglob("*.*")):
        kind = marked.get(path.relative_to(folder).as_posix(), "")
        if kind in ("corrupted", "outlier"):
            continue
        image = pixels(path)
        light = image.mean(axis=2)
        height, width = light.shape
        bits = entropy(light)
        dark, bright = bool(np.percentile(light, 99) < 70), bool(np.percentile(light, 5) > 190)
        # Dark, bright and flat pictures have small differences for another reason than blur.
        sharp = float(cv2.Laplacian(light, cv2.CV_64F).std()) if bits > 2.5 and not dark and not bright else 99.0
        measured = {
            "dark": dark,
            "bright": bright,
            "blurry": sharp < 2.5,
            "low_information": bits < 2.5,
            "grayscale": int(np.ptp(image.astype(int), axis=2).max()) < 8,
            "odd_size": not 110 <= (height * width) ** 0.5 <= 700,
            "odd_aspect_ratio": max(height, width) / min(height, width) > 4,
        }
        assert [name for name, odd in measured.items() if odd] == ([kind] if kind else []), path
        if not kind:
            assert bits >= 4.5, path


def test_same_seed_writes_the_same_bytes(lake: tuple[Path, list[Planted]], tmp_path: Path) -> None:
    """Catches a generator without a seed, or one that depends on the order of a set."""
    folder, truth = lake
    assert plant(tmp_path / "images") == truth
    for path in folder.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "images" / path.relative_to(folder)).read_bytes()


def test_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="not empty"):
        plant(tmp_path)
