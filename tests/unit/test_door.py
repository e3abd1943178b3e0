"""Catches evidence that is not the lake's, a rule that is not the pipeline's, and a door that opens on half a lake."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs import tables
from jobs.errors import ConfigError, LakeError
from jobs.findings.formulas import Sizes
from jobs.serve import command, gallery
from jobs.serve.door import answering, making, sources
from jobs.serve.door.beside import _with_one_more
from jobs.serve.door.evidence import Evidence
from jobs.serve.door.settings import of_lake
from jobs.serve.searching import MAX_PIXELS, Searches
from tests.bench import serve_lake
from tests.e2e import images
from udfs import image_pass
from udfs.copies import BESIDE, NOWHERE, SecondLook
from udfs.images.relation_names import MIRRORED, to_bits
from udfs.networks import models
from udfs.stores import fetch
from udfs.transforms import square
from udfs.vectors.near_rule import NO_BACKGROUND, NearRule

IMAGES = 400
SAME = 150  # images of equal pixels


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up rows with hashes, looks and vectors; the first SAME have equal pixels, the last 40 no features."""
    folder = tmp_path_factory.mktemp("door") / "lake"
    serve_lake.write(folder, IMAGES, labels=3)
    features = DeltaTable(str(folder / "features")).to_pyarrow_table().sort_by("image_id").slice(0, IMAGES - 40)
    ids = features["image_id"].to_numpy()
    changed = {
        "pixel_hash": [f"{7 if n < SAME else n:032x}" for n in range(len(ids))],
        "sha256": [f"{n + 1:064x}" for n in range(len(ids))],
        "thumbnail": [bytes([n % 256]) * 1024 for n in range(len(ids))],
        "look": [b"look of %d" % n for n in range(len(ids))],
    }
    for name, values in changed.items():
        place = features.schema.get_field_index(name)
        features = features.set_column(place, name, pa.array(values, features.schema.field(name).type))
    # In another order than the images, and in several files.
    order = np.random.default_rng(0).permutation(len(ids))
    write_deltalake(str(folder / "features"), features.take(order), mode="overwrite")
    vectors = np.random.default_rng(1).standard_normal((len(ids), models.find(models.DEFAULT).dimension))
    kept = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)
    table = pa.table(
        {"image_id": ids, "model": [models.DEFAULT] * len(ids), "vector": list(kept),
         "norm": np.ones(len(ids), np.float32)}
    )  # fmt: skip
    write_deltalake(str(folder / "embeddings"), table.take(order))
    scores = DeltaTable(str(folder / "scores")).to_pyarrow_table()
    low = np.where(scores["image_id"].to_numpy() % 5 < 3, 0.0, 1.0)
    place = scores.schema.get_field_index("size_score")
    write_deltalake(str(folder / "scores"), scores.set_column(place, "size_score", pa.array(low)), mode="overwrite")
    near = pa.table({"image_id": ids[:20], "rank": np.full(20, 10, np.int32), "neighbour_id": ids[1:21],
                     "cosine": np.linspace(0, 0.5, 20)})  # fmt: skip
    write_deltalake(str(folder / "neighbours"), near)
    return folder


@pytest.fixture
def evidence(lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evidence:
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path))
    at = gallery.versions(str(lake))
    return making.opened(str(lake), at, gallery.opened(str(lake), at), of_lake(str(lake)))


def test_evidence_is_that_of_each_row(evidence: Evidence, lake: Path) -> None:
    """Rows of another image: the tables lie in other orders."""
    columns = gallery.opened(str(lake), gallery.versions(str(lake)))
    vectors = {
        row["image_id"]: row["vector"] for row in DeltaTable(str(lake / "embeddings")).to_pyarrow_table().to_pylist()
    }
    rows = np.array([5, 399, 200])
    found = evidence.vectors(rows)
    looks = evidence.looks(rows)
    for place, row in enumerate(rows.tolist()):
        number = int(columns.id[row])
        if number >= IMAGES - 40:
            assert not found[place].any()
            assert looks[place] is None
        else:
            assert found[place].tolist() == vectors[number]
            assert looks[place] == (bytes([number % 256]) * 1024, b"look of %d" % number)
    assert np.isnan(evidence.tenth[25])
    assert evidence.tenth[columns.rows_of([3])[3]] == pytest.approx(np.linspace(0, 0.5, 20)[3])
    assert (evidence.representative == np.arange(IMAGES)).all()


def test_exact_copies(evidence: Evidence) -> None:
    """Hashes of which only the first half is compared; a tenth of a lake that is one picture; zeros for no hash."""
    total, rows = evidence.exact(f"{7:032x}", 20)
    assert (total, len(rows)) == (SAME, 20)
    assert evidence.exact(f"{200:032x}", 20)[0] == 1
    assert evidence.exact(f"{200 + (1 << 100):032x}", 20)[0] == 0
    assert evidence.exact(f"{0:032x}", 20)[0] == 0
    assert evidence.sha256[rows[0]].tobytes().hex() == f"{int(rows[0]) + 1:064x}"


def test_sizes_are_those_of_the_pipeline(evidence: Evidence, lake: Path) -> None:
    """Percentiles that are interpolated in another way."""
    table = DeltaTable(str(lake / "features")).to_pyarrow_table()
    sides = np.round(np.log(np.sqrt(table["width"].to_numpy().astype(float) * table["height"].to_numpy())), 3)
    expected = Sizes.of_quartiles(*np.percentile(sides, [25, 50, 75]).tolist())
    assert (evidence.facts.median, evidence.facts.usual) == pytest.approx((expected.median, expected.usual), abs=1e-9)


def test_what_most_of_a_lake_has_is_no_issue(evidence: Evidence) -> None:
    """Three of five have an odd size: the lake is like that. Colour is drawn evenly, and most of it is in colour."""
    assert evidence.facts.common == (tables.ODD_SIZE,)
    assert evidence.facts.is_coloured


def test_a_lake_that_is_half_made(lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path))
    at = gallery.versions(str(lake))
    columns = gallery.opened(str(lake), at)
    searches = Searches(str(lake), at, columns, fetch.Limits(), MAX_PIXELS)
    with pytest.raises(LakeError, match="no table copies"):
        answering.opened(str(lake), at, columns, searches)
    searches.wait()


def test_settings_of_a_lake_without_runs_are_the_defaults(lake: Path) -> None:
    found = of_lake(str(lake))
    model = models.find(models.DEFAULT)
    assert found.model == model
    assert found.rule == NearRule(
        model.near_duplicate_threshold or 0, model.near_duplicate_margin or 0, model.near_duplicate_certain or 0,
        model.near_duplicate_evidence or 0,
    )  # fmt: skip
    assert found.least_to_keeper == pytest.approx(0.40 - 0.12)


def test_backgrounds_once_another_is_among_the_neighbours() -> None:
    """By sorting ten cosines and one more."""
    draw = np.random.default_rng(0)
    known = -np.sort(-draw.random((200, 10)), axis=1)
    new = draw.random(200)
    with_it = -np.sort(-np.column_stack([known, new]), axis=1)
    assert _with_one_more(known[:, 8], known[:, 9], new) == pytest.approx(with_it[:, 9])
    nine = -np.sort(-np.column_stack([known[:, :9], new]), axis=1)
    assert _with_one_more(known[:, 8], np.full(200, np.nan), new) == pytest.approx(nine[:, 9])
    nothing = np.full(200, np.nan)
    assert (_with_one_more(nothing, nothing, new) == NO_BACKGROUND).all()


def row_of(data: bytes, **more: object) -> dict[str, object]:
    decoded, seen = square.opened(data, 10**8)
    usual = {"cosine": 0.9, "background": 0.5, "own_background": 0.5, "keeper": NOWHERE, "is_near": True}
    told = {**usual, **image_pass._features(data, decoded, seen), **more}
    return {name: told[name] for name in BESIDE.names}


def test_the_second_look() -> None:
    """A picture that is not looked at, or one that is though nothing asks for it; more than the most."""
    pixels = images.picture(8, 320, 240)
    own = images.jpeg(pixels)
    mirrored, other = images.jpeg(pixels[:, ::-1].copy()), images.jpeg(images.picture(21, 320, 240))
    rule = NearRule(0.40, 0.05, 0.88, 0.40)
    rows = [
        row_of(own),
        row_of(other, cosine=0.95),  # certain
        row_of(mirrored, cosine=0.45, keeper=3),  # by its hash
        row_of(other, cosine=0.41, background=0.39, own_background=0.39),  # by nothing
        row_of(other, cosine=0.30, is_near=False),  # the keeper of the second
        row_of(mirrored, cosine=0.39),  # below the threshold
        row_of(other, cosine=0.5, is_near=False),
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=BESIDE)
    (found,) = SecondLook(rule, 0.28, 10)(iter([batch]))
    told = {row["row"]: row for row in found.to_pylist()}
    assert list(told) == [0, 1, 3]
    assert told[1]["relation"] == to_bits([MIRRORED])
    (few,) = SecondLook(rule, 0.28, 1)(iter([batch]))
    assert few.column("row").to_pylist() == [0]
    (far,) = SecondLook(rule, 0.31, 10)(iter([batch]))
    assert far.column("row").to_pylist() == [0, 1]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("s3://photos", "s3://photos/"), ("s3://photos/in/", "s3://photos/in/"), ("s3a://photos/in", "s3://photos/in/"),
        ("/data", None), ("https://photos/in", None), ("s3://", None), ("s3://a/../b", None), ("s3://UPPER/a", None),
    ],
)  # fmt: skip
def test_sources(given: str, told: str | None) -> None:
    if told is not None:
        assert sources.prefixes([given]) == (told,)
        return
    with pytest.raises(ConfigError, match="--door-from"):
        sources.prefixes([given])


def test_token_files(tmp_path: Path) -> None:
    """A token that others can read, or guess."""
    file = tmp_path / "token"
    file.write_text("a" * 32 + "\n", encoding="ascii")
    file.chmod(0o600)
    assert command._token(str(file)) == "a" * 32
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        command._token(str(file))
    for text in ("", "short", "a" * 31, "a" * 40 + " b", "ä" * 40):
        file.write_bytes(text.encode())
        os.chmod(file, 0o600)  # noqa: PTH101
        with pytest.raises(ConfigError, match="--token-file"):
            command._token(str(file))
    with pytest.raises(ConfigError, match="cannot be read"):
        command._token(str(tmp_path / "none"))


def test_a_prefix_without_a_door() -> None:
    with pytest.raises(ConfigError, match="add --door"):
        command.main(["--lake", "/nowhere", "--door-from", "s3://photos/in", "--no-browser"])
