"""Catches a rating that is scored twice or not at all, stays when its picture changes, or takes a bad file."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import imagesieve
import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from jobs import command
from jobs.errors import RunError
from jobs.rating import command as ratings
from jobs.rating import store
from tests import networks
from tests.e2e import images, lakes
from tests.e2e.conftest import Labelled
from udfs.networks.models import Model

COUNT = 60


@dataclass(frozen=True)
class Rated:
    """A lake of bright and dark pictures, and a rating of the bright ones."""

    folder: Path
    lake: Path
    picks: Path


@pytest.fixture(scope="module")
def rated(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Rated:
    root = tmp_path_factory.mktemp("rated")
    folder = root / "in"
    for kind, scale in (("bright", 1.0), ("dark", 0.25)):
        (folder / kind).mkdir(parents=True)
        for number in range(COUNT // 2):
            pixels = images.picture(number if kind == "bright" else 500 + number)
            shown = (pixels * scale + (0 if kind == "dark" else 90)).clip(0, 255).astype(np.uint8)
            Image.fromarray(shown).save(folder / kind / f"{number}.png")
    lakes.ran(spark, "run", folder, "--lake", root / "lake", "--layout", "{label}/*")
    lines = [f"{folder / kind / f'{n}.png'},{'yes' if kind == 'bright' else 'no'}" for kind in ("bright", "dark")
             for n in range(12)]  # fmt: skip
    picks = root / "picks.csv"
    picks.write_text("uri,picked\n" + "\n".join(lines) + "\n", encoding="utf-8")
    assert ratings.main(["fit", "bright", "--lake", str(root / "lake"), "--picks", str(picks)]) == 0
    return Rated(folder, root / "lake", picks)


@pytest.fixture
def copy(rated: Rated, tmp_path: Path) -> Path:
    shutil.copytree(rated.lake, tmp_path / "lake")
    return tmp_path / "lake"


def refusal(*argv: str) -> str:
    """The one line with which a command is refused."""
    with pytest.raises(RunError) as caught:
        ratings.main(list(argv))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_only_what_is_new_is_scored(
    rated: Rated, copy: Path, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that scores all again, one that leaves rows of a rating that is gone, or scores as the head does not."""
    lakes.ran(spark, "rate", "--lake", copy)
    rows = lakes.table(copy, "ratings").to_pandas().set_index("image_id")
    assert len(rows) == COUNT
    assert rows["percentile"].between(0, 1).all()
    album = imagesieve.open(copy).rate(rows.index.tolist(), "bright")
    assert np.allclose(album["score"], rows["score"], atol=1e-9)
    assert np.allclose(album["percentile"], rows["percentile"], atol=1e-9)
    assert np.allclose(album["uncertainty"], rows["uncertainty"], rtol=1e-4)
    labels = lakes.table(copy, "images").to_pandas().set_index("image_id")["label"]
    means = rows["score"].groupby(labels).mean()
    assert means["bright"] > means["dark"] + 0.3
    version = lakes.versions(copy)["ratings"]
    lakes.ran(spark, "rate", "--lake", copy)
    assert lakes.versions(copy)["ratings"] == version
    # A second rating: the rows of the first stay as they are.
    assert ratings.main(["fit", "bright", "--lake", str(copy), "--picks", str(rated.picks), "--base", "bright"]) == 0
    lakes.ran(spark, "rate", "--lake", copy)
    assert lakes.table(copy, "ratings").to_pandas()["rating"].value_counts().to_dict() == {
        "bright@1": COUNT, "bright@2": COUNT,
    }  # fmt: skip
    assert ratings.main(["remove", "bright@1", "--lake", str(copy)]) == 0
    lakes.ran(spark, "rate", "--lake", copy)
    assert set(lakes.table(copy, "ratings").to_pandas()["rating"]) == {"bright@2"}
    out = copy.parent / "kept.csv"
    lakes.ran(spark, "clean", "--lake", copy, "--out", out, "--set", "clean.rating=bright@2",
              "--set", "clean.rating_keep=5", "--set", "clean.remove=[corrupted]")  # fmt: skip
    assert len(out.read_text(encoding="utf-8").splitlines()) == 1 + 2 * 5
    with pytest.raises(RunError, match="no image has a score of 'other@1'"):
        command.perform(command.parser().parse_args(
            ["clean", "--lake", str(copy), "--out", str(out), "--set", "clean.rating=other@1"]), spark)  # fmt: skip


def test_a_changed_picture_is_scored_again(labelled_copy: Labelled, spark: SparkSession, tmp_path: Path) -> None:
    """A score of bytes that are no longer there, and one of a picture that is gone."""
    lake, folder = labelled_copy.lake, labelled_copy.folder
    table = lakes.table(lake, "images").to_pandas()
    known = lakes.table(lake, "features").to_pandas()["image_id"]
    table = table[table["image_id"].isin(known)].sort_values("image_id")
    picks = tmp_path / "picks.jsonl"
    picks.write_text(
        "".join(
            json.dumps({"image_id": i, "rating": n % 5}) + "\n" for n, i in enumerate(table["image_id"][:20].tolist())
        ),
        encoding="utf-8",
    )
    assert ratings.main(["fit", "steps", "--lake", str(lake), "--picks", str(picks)]) == 0
    lakes.ran(spark, "run", folder, "--lake", lake, "--layout", "{split}/{label}/*")
    before = lakes.table(lake, "ratings").to_pandas().set_index("image_id")
    assert len(before) == len(known)
    single = table[table["shard"].isna()]
    changed, gone = single.iloc[0], single.iloc[1]
    Image.fromarray(images.picture(4321)).save(changed["uri"], format="PNG")
    Path(gone["uri"]).unlink()
    lakes.ran(spark, "run", folder, "--lake", lake, "--layout", "{split}/{label}/*")
    after = lakes.table(lake, "ratings").to_pandas().set_index("image_id")
    assert gone["image_id"] not in after.index
    assert after.loc[changed["image_id"], "etag"] != before.loc[changed["image_id"], "etag"]
    same = after.index.intersection(before.index).drop(changed["image_id"])
    assert np.array_equal(after.loc[same, "score"], before.loc[same, "score"])


def test_suggest_and_explain(
    rated: Rated, copy: Path, spark: SparkSession, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A suggestion of what was judged, and shares that are not those of the score."""
    lakes.ran(spark, "rate", "--lake", copy)
    capsys.readouterr()
    assert ratings.main(["suggest", "bright", "--lake", str(copy), "--count", "5"]) == 0
    told = capsys.readouterr().out
    picked = {line.split(",")[0] for line in rated.picks.read_text(encoding="utf-8").splitlines()[1:]}
    assert told.count("/in/") == 10
    assert not any(f"{uri}\n" in told for uri in picked)
    out = tmp_path / "maps"
    assert ratings.main(["explain", "bright", "--lake", str(copy), "--top", "3", "--out", str(out)]) == 0
    explained = json.loads((out / "bright@1.json").read_text(encoding="utf-8"))
    scores = lakes.table(copy, "ratings").to_pandas().set_index("image_id")["score"]
    assert [one["image_id"] for one in explained] == scores.nlargest(3).index.tolist()
    for one in explained:
        shares = np.load(out / one["map"], allow_pickle=False)
        assert one["how"] == "exact"
        assert abs(shares.sum() - one["total"]) < 1e-9
        assert abs(1 / (1 + np.exp(-one["total"] - one["offset"])) - scores[one["image_id"]]) < 1e-9
        assert (out / one["overlay"]).read_bytes()[:4] == b"RIFF"
    uri = str(rated.folder / "dark" / "3.png")
    assert (
        ratings.main(["explain", "bright", "bright@1", "--lake", str(copy), "--uri", uri, "--out", str(out), "--png"])
        == 0
    )
    assert (out / "side-by-side.png").is_file()


def network_card(made: Model, folder: Path) -> Path:
    cards = folder / "cards.yaml"
    cards.write_text(json.dumps({"theirs@1": {
        "format": made.format, "weights": made.weights, "sha256": made.sha256, "licence": "none", "source": "a seed",
        "input_side": networks.SIDE, "mean": list(networks.MEAN), "std": list(networks.STD), "output": "logits",
        "bins": networks.DIMENSION,
    }}), encoding="utf-8")  # fmt: skip
    return cards


def test_the_report_shows_each_rating(copy: Path, spark: SparkSession, tmp_path: Path) -> None:
    """A page that shows others than the best, no map or one of another picture, or that is not made anew."""
    assert ratings.main(["add", str(network_card(networks.onnx_model(tmp_path), tmp_path)), "--lake", str(copy)]) == 0
    lakes.ran(spark, "rate", "--lake", copy)
    lakes.ran(spark, "report", "--lake", copy, "--set", "report.rating_images=6")
    page = (copy / "report" / "rating-bright@1.html").read_text(encoding="utf-8")
    sections = {part.split('"')[0]: part for part in page.split('<section aria-labelledby="')[1:]}
    rows = lakes.table(copy, "ratings").to_pandas()
    own = rows[rows["rating"] == "bright@1"].sort_values("image_id")
    for side, order in (
        ("best", -own["score"]), ("worst", own["score"]), ("unsure", (own["score"] - 0.5).abs()),
    ):  # fmt: skip
        expected = own.loc[order.sort_values(kind="stable").index[:6], "image_id"].tolist()
        assert [int(found) for found in re.findall(r"#(\d+)</span>", sections[side])] == expected
    maps = re.findall(r"Map of the score over image (\d+)", sections["maps"])
    best, worst = (own.sort_values("score", ascending=side)["image_id"].tolist()[:3] for side in (False, True))
    assert [int(found) for found in maps] == best + worst
    assert len(re.findall('<rect class="(?:raises|lowers)"', sections["maps"])) == 6 * 49
    theirs = (copy / "report" / "rating-theirs@1.html").read_text(encoding="utf-8")
    assert "a network of its own, whose maps are not made" in theirs
    both = rows.pivot(index="image_id", columns="rating", values="score").corr(method="spearman")
    correlation = f"{both.loc['bright@1', 'theirs@1']:.2f}"
    assert f"{correlation}</td>" in page
    assert f"{correlation}</td>" in theirs
    # One rating is gone: so is its page.
    assert ratings.main(["remove", "theirs@1", "--lake", str(copy)]) == 0
    lakes.ran(spark, "rate", "--lake", copy)
    lakes.ran(spark, "report", "--lake", copy)
    assert not (copy / "report" / "rating-theirs@1.html").exists()


def test_a_network_of_others_in_a_lake(copy: Path, spark: SparkSession, tmp_path: Path) -> None:
    """Scores of a network that are not scored once, or of no picture."""
    made = networks.onnx_model(tmp_path)
    assert ratings.main(["add", str(network_card(made, tmp_path)), "--lake", str(copy)]) == 0
    told = refusal("explain", "theirs", "--lake", str(copy), "--top", "1", "--out", str(tmp_path))
    assert "theirs@1 is a network of its own" in told
    assert "theirs@1 is a network of its own" in refusal("suggest", "theirs", "--lake", str(copy))
    lakes.ran(spark, "rate", "--lake", copy)
    rows = lakes.table(copy, "ratings").to_pandas()
    own = rows[rows["rating"] == "theirs@1"]
    assert len(own) == COUNT
    assert own["score"].between(1, networks.DIMENSION).all()
    assert own["percentile"].is_monotonic_increasing == own["score"].is_monotonic_increasing
    assert own["uncertainty"].isna().all()
    version = lakes.versions(copy)["ratings"]
    lakes.ran(spark, "rate", "--lake", copy)
    assert lakes.versions(copy)["ratings"] == version


def test_raters_have_their_own(rated: Rated, copy: Path, tmp_path: Path) -> None:
    """A rater's album that is scored by the head of all."""
    files = [str(rated.folder / kind / f"{n}.png") for kind in ("bright", "dark") for n in range(20)]
    rows = [f"{uri},{'yes' if ('bright' in uri) == (rater == 'anna') else 'no'},{rater}" for rater in ("anna", "ben")
            for uri in files]  # fmt: skip
    picks = tmp_path / "picks.csv"
    picks.write_text("uri,picked,rater\n" + "\n".join(rows) + "\n", encoding="utf-8")
    assert ratings.main(["fit", "all", "--lake", str(copy), "--picks", str(picks)]) == 0
    lake = imagesieve.open(copy)
    album = [str(rated.folder / kind / "25.png") for kind in ("bright", "dark")]
    anna, ben = (lake.rate(album, "all", rater=name)["score"] for name in ("anna", "ben"))
    assert anna[0] > anna[1]
    assert ben[0] < ben[1]
    with pytest.raises(RunError, match="knows no rater 'carl'"):
        lake.rate(album, "all", rater="carl")
    with pytest.raises(RunError, match=r"1 images are not in .*nothing.png"):
        lake.rate(["nothing.png"], "all")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("uri,picked\nno.png,yes\n", "1 judged images are not in the lake .*no.png.*: none is left"),
        ("uri,stars\na,1\n", "needs one of rating; picked; better and worse"),
        ("uri,picked,rating\na,yes,1\n", "needs one of rating; picked"),
        ("picked\nyes\n", "needs the column uri or image_id"),
        ("uri,picked\n", "holds no judgement"),
        ("image_id,picked\n1,maybe\n", "row 1: picked must be yes or no, got 'maybe'"),
        ("image_id,rating\n1,nan\n2,3\n", "rating must be a number: 1 are none"),
        ("image_id,rating\n1,1e400\n", "rating must be a number"),
        ("image_id,rating,weight\n1,1,0\n", "row 1: weight must be above 0"),
        ("better,worse\n1,1\n", "1 pairs are of one picture"),
        ("image_id,picked\n1,yes\n2,yes\n3,no\n", "3 judgements: at least 8 are needed"),
        ("image_id,picked\n" + "".join(f"{n},yes\n" for n in range(20)), "0 pictures are not picked"),
        ('"', "cannot be read|needs one of"),
    ],
)
def test_bad_picks_are_one_line(rated: Rated, tmp_path: Path, text: str, told: str) -> None:
    """A traceback, or a head of judgements that are none."""
    file = tmp_path / "picks.csv"
    file.write_text(text, encoding="utf-8")
    before = store.keys(str(rated.lake))
    assert re.search(told, refusal("fit", "bad", "--lake", str(rated.lake), "--picks", str(file)))
    assert store.keys(str(rated.lake)) == before


def test_what_was_left_out_is_said(
    rated: Rated, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Judgements that vanish in silence."""
    text = rated.picks.read_text(encoding="utf-8")
    again = text.splitlines()[1].replace(",yes", ",no")
    file = tmp_path / "picks.csv"
    file.write_text(text + f"/gone/a.png,yes\n{again}\n", encoding="utf-8")
    assert ratings.main(["fit", "some", "--lake", str(copy), "--picks", str(file), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "1 judged images are not in the lake ('/gone/a.png'): left out" in told
    assert "1 images are judged again by the same person, 1 otherwise: averaged" in told
    assert "some@1" not in store.keys(str(copy))


def test_bad_heads_are_one_line(rated: Rated, copy: Path, tmp_path: Path) -> None:
    """A head of another model, a damaged one and a pickle that are taken."""
    heads = copy / store.FOLDER
    key = "bright@1"
    numbers = (heads / f"{key}.safetensors").read_bytes()
    (heads / f"{key}.safetensors").write_bytes(numbers[:-1] + b"x")
    assert "has SHA-256" in refusal("suggest", "bright", "--lake", str(copy))
    (heads / f"{key}.safetensors").write_bytes(b"\x80\x04pickle")
    assert "is a pickle" in refusal("list", "--lake", str(copy))
    (heads / f"{key}.safetensors").write_bytes(numbers)
    card = json.loads((heads / f"{key}.json").read_text(encoding="utf-8"))
    (heads / f"{key}.json").write_text(json.dumps({**card, "dimension": 12}), encoding="utf-8")
    assert "its card says 12 numbers" in refusal("list", "--lake", str(copy))
    (heads / f"{key}.json").write_text(json.dumps({**card, "model": "other@1"}), encoding="utf-8")
    for argv in (
        ["suggest", "bright"], ["explain", "bright", "--top", "1", "--out", str(tmp_path / "o")],
        ["fit", "mine", "--picks", str(rated.picks), "--base", "bright"],
    ):  # fmt: skip
        assert "is for vectors of other@1" in refusal(*argv, "--lake", str(copy))
    assert "no rating 'nice'" in refusal("suggest", "nice", "--lake", str(copy))
    assert "must end in .yaml or .safetensors" in refusal("add", "a.txt", "--lake", str(copy))
    file = tmp_path / "theirs.pth"
    file.write_bytes(b"\x80\x04pickle")
    cards = tmp_path / "cards.yaml"
    cards.write_text(json.dumps({"theirs@1": {
        "format": "head", "model": "m@1", "layers": ["a"], "weights": str(file), "licence": "x", "source": "y",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }}), encoding="utf-8")  # fmt: skip
    assert "is a pickle" in refusal("add", str(cards), "--lake", str(copy))
