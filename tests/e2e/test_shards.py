"""Images inside tar and Parquet files go the whole way, from the catalog to the thumbnails of the report."""

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e import images, lakes


def tar(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


@pytest.mark.slow
def test_shards_are_as_good_as_files(commands: lakes.Commands, tmp_path: Path) -> None:
    """Bytes of another member; a copy in a shard that is not found; a broken shard that is lost, or that one is told
    to delete; thumbnails that cannot be read; a second run that reads all again."""
    pictures = [images.jpeg(images.picture(number)) for number in range(15)]
    members = {f"{number:04d}.jpg": data for number, data in enumerate(pictures[:8])}
    members |= {"0007.cls": b"cat\n", "copy.jpg": pictures[12], "no image.png": b"nothing"}
    folder = images.write(
        tmp_path / "in",
        {
            "train/a.tar": tar(members),
            "train/broken.tar": b"\0\1" * 2000,
            **{f"test/{number}.jpg": data for number, data in enumerate(pictures[11:])},
        },
    )
    pq.write_table(
        pa.table({"image": [*pictures[8:11], pictures[14], None]}), folder / "test" / "b.parquet", row_group_size=2
    )
    run = ("run", folder, "--lake", tmp_path / "lake", "--layout", "{split}/**")
    ended = commands(*run)
    assert ended.code == 0, ended.err
    lake = tmp_path / "lake"
    rows = {row["image_id"]: row for row in lakes.rows(lake, "images")}
    short = {number: lakes.relative_to(folder)(row["uri"]) for number, row in rows.items()}
    assert len(rows) == 10 + 1 + 4 + 5
    embedded = {short[row["image_id"]] for row in lakes.rows(lake, "embeddings")}
    assert {"train/a.tar!/0000.jpg", "train/a.tar!/copy.jpg", "test/b.parquet!/2", "test/0.jpg"} <= embedded
    assert len(embedded) == 9 + 4 + 4
    failures = {short[row["image_id"]]: row["error"] for row in lakes.rows(lake, "failures")}
    assert failures == {
        "train/a.tar!/no image.png": "not_an_image", "train/broken.tar": "corrupt", "test/b.parquet!/4": "empty"
    }  # fmt: skip
    by_name = {name: rows[number] for number, name in short.items()}
    assert (by_name["train/a.tar!/0007.jpg"]["label"], by_name["train/a.tar!/0007.jpg"]["split"]) == ("cat", "train")
    issues = [(short[row["image_id"]], row["issue"], row["suggestion"]) for row in lakes.rows(lake, "issues")]
    assert ("train/broken.tar", "corrupted", "review") in issues
    assert ("train/a.tar!/no image.png", "corrupted", "remove") in issues
    exact: dict[int, set[str]] = {row["cluster_id"]: set() for row in lakes.rows(lake, "duplicates")}
    for row in lakes.rows(lake, "duplicates"):
        exact[row["cluster_id"]].add(short[row["image_id"]])
    assert {"train/a.tar!/copy.jpg", "test/1.jpg"} in exact.values()
    assert {"test/b.parquet!/3", "test/3.jpg"} in exact.values()
    thumbnails = {int(path.stem.partition("-")[0]) for path in (lake / "report" / "thumbs").iterdir()}
    assert {
        number for number, name in short.items() if name in ("train/a.tar!/copy.jpg", "test/b.parquet!/3")
    } <= thumbnails
    before = lakes.versions(lake)
    assert commands(*run).code == 0
    assert lakes.versions(lake) == before
