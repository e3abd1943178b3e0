"""`imagesieve group`: one owner's pictures by groups of alike ones, from the command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from jobs.albums.grouping import BURST_S, GroupedAlbum, OwnersAlbums, level_of
from jobs.lakes import existing, named


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="imagesieve group",
        allow_abbrev=False,
        description="Groups the pictures of one owner: what is alike, the best of each group, and bursts.",
    )
    options.add_argument("--lake", required=True, metavar="URI", help="where the tables lie")
    options.add_argument("--owner", required=True, metavar="ID", help="as in the column owner of the table images")
    options.add_argument(
        "--level", default="medium", help="how alike: low, medium, high, or a cosine (default: %(default)s)"
    )
    options.add_argument("--by", metavar="RATING", help="what the best is the best by (default: the quality score)")
    options.add_argument(
        "--burst", type=float, default=BURST_S, metavar="SECONDS",
        help="a longer gap between two pictures ends a burst (default: %(default)s)",
    )  # fmt: skip
    options.add_argument("--json", action="store_true", help="a JSON object a picture, one a line")
    return options


def main(argv: Sequence[str]) -> int:
    """Prints the pictures, group by group, the best of each first. Raises RunError."""
    given = parser().parse_args(argv)
    albums = OwnersAlbums(existing(named(given.lake)))
    found = albums.grouped(given.owner, level_of(given.level), given.by, given.burst)
    sys.stdout.write("".join(_lines(found, given.json)))
    return 0


def _lines(found: GroupedAlbum, as_json: bool) -> list[str]:
    rows = sorted(found.rows(), key=lambda row: (row["group"], not row["best"], -row["cosine"], row["image_id"]))
    if as_json:
        return [json.dumps(row) + "\n" for row in rows]
    lines = ["group  best  cosine   score  burst  taken at              uri\n"]
    for row in rows:
        best, burst = "*" if row["best"] else "", "" if row["burst"] is None else row["burst"]
        score = "" if row["score"] is None else f"{row['score']:.4f}"
        taken = "" if row["taken_at"] is None else row["taken_at"][:19] + ("" if row["by_camera"] else "?")
        uri = row["uri"].encode("utf-8", "replace").decode("utf-8")
        lines.append(
            f"{row['group']:>5}  {best:<4}  {row['cosine']:6.4f}  {score:>6}  {burst:>5}  {taken:<20}  {uri}\n"
        )
    return lines
