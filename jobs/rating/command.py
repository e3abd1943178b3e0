"""`imagesieve ratings`: learn a rating, ask which pictures to judge next, show where a score comes from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from jobs import config
from jobs.errors import ConfigError, InputError
from jobs.lakes import existing, named
from jobs.rating import store
from jobs.rating.vectors import LakeRows
from udfs.networks import models
from udfs.stores import fetch, uris
from udfs.stores.s3 import StoreError

COUNT = 20
Run = Callable[[argparse.Namespace], list[str]]


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="imagesieve ratings", allow_abbrev=False,
        description="Scores that are learnt from people's own picks. `imagesieve rate` scores the images by them.",
    )  # fmt: skip
    commands = options.add_subparsers(dest="what", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        made.add_argument("--lake", required=True, metavar="URI", help="where the tables lie")
        config.add_options(made)
        return made

    fit = command("fit", "learn a rating from a file of judgements")
    fit.add_argument(
        "name", metavar="NAME", help="NAME or NAME@REVISION; the next revision is numbered where none is given"
    )
    fit.add_argument("--picks", required=True, metavar="FILE", help=".csv, .parquet or .jsonl of judgements")
    fit.add_argument(
        "--base", metavar="NAME", help="a rating from which this one differs only by what the judgements say"
    )
    fit.add_argument("--licence", default="", metavar="TEXT", help="of the judgements, in your words")
    fit.add_argument("--source", default="", metavar="TEXT", help="where the judgements come from, in your words")
    fit.add_argument("--dry-run", action="store_true", help="only say what it would be worth; keep nothing")
    suggest = command("suggest", "name the pictures whose judgement would teach most, and the least sure ones")
    suggest.add_argument("name", metavar="NAME")
    suggest.add_argument("--count", type=int, default=COUNT, help="pictures of each kind (default: %(default)s)")
    explain = command("explain", "show where in a picture a score comes from")
    explain.add_argument("names", metavar="NAME", nargs="+", help="one rating, or several side by side")
    which = explain.add_mutually_exclusive_group(required=True)
    which.add_argument("--uri", metavar="IMAGE", help="one picture of the lake")
    which.add_argument("--top", type=int, default=0, metavar="N", help="the N pictures of the highest score")
    which.add_argument("--bottom", type=int, default=0, metavar="N", help="the N pictures of the lowest score")
    explain.add_argument("--out", required=True, metavar="FOLDER", help="where overlays, maps and regions go")
    explain.add_argument("--png", action="store_true", help="overlays as PNG in place of WebP")
    add = command("add", "bring another's scorer: a head file of imagesieve, or a YAML file of cards")
    add.add_argument("file", metavar="FILE", help="NAME@REVISION.safetensors with its card beside it, or a .yaml")
    command("list", "list the ratings of a lake")
    remove = command("remove", "take a rating out of a lake")
    remove.add_argument("name", metavar="NAME@REVISION")
    return options


def _model(given: argparse.Namespace) -> tuple[config.Config, models.Model]:
    settings = config.load(given.config, given.overrides)
    return settings, models.find(settings.embed.model, settings.models)


def _fit(given: argparse.Namespace) -> list[str]:
    from jobs.rating import learning

    _, model = _model(given)
    lake = LakeRows(given.lake, model.key)
    learnt = learning.learn(lake, given.name, Path(given.picks), given.base, given.licence, given.source)
    if given.dry_run:
        return [*learnt.lines, "dry run: nothing was kept"]
    place = store.write(given.lake, learnt.head)
    store.keep_judged(given.lake, learnt.head.key, learnt.judged)
    return [*learnt.lines, f"kept: {place}", f"next: imagesieve rate --lake {given.lake}"]


def _suggest(given: argparse.Namespace) -> list[str]:
    from jobs.rating import suggesting

    if given.count < 1:
        raise ConfigError(f"--count: must be 1 or more, got {given.count}")
    _, model = _model(given)
    lake = LakeRows(given.lake, model.key)
    found = suggesting.suggest(lake, store.find(given.lake, given.name).head, given.count)
    lines = []
    for title, rows in (("whose judgement would teach most:", found.telling), ("least sure:", found.unsure)):
        lines.append(title)
        lines += [f"{one.score:>10.4f}  {one.image_id:>10}  {one.uri}" for one in rows]
    if found.seen < found.images:
        lines.append(f"note: {found.seen:,} of {found.images:,} pictures were looked at")
    return lines


def _explain(given: argparse.Namespace) -> list[str]:
    from jobs.rating import explaining

    if not given.uri and not 1 <= max(given.top, given.bottom) <= explaining.MOST:
        raise ConfigError(f"--top, --bottom: must be 1..{explaining.MOST}")
    settings, model = _model(given)
    lake, out, embed = LakeRows(given.lake, model.key), Path(given.out), settings.embed
    limits = fetch.Limits(embed.max_bytes, embed.timeout_s, embed.retries)
    try:
        uri = None if given.uri is None else uris.canonical(given.uri, base=str(Path.cwd()))
    except ValueError as error:
        raise ConfigError(f"--uri: {error}") from error
    ending, lines, pictures = "png" if given.png else "webp", [], []
    for name in given.names:
        head = explaining.of_lake(given.lake, name)
        found = explaining.explain(lake, model, head, uri, given.top, given.bottom, limits, embed.max_pixels)
        written = explaining.write(out, found, head, ending, model.fit)
        how = sorted({one.how for one in found})
        lines.append(f"{head.key}: {len(written):,} maps, {' and '.join(how) or 'none'}, in {out}")
        pictures += [cv2.imread(str(out / file)) for file in written] if uri is not None else []
    if len(pictures) > 1:
        together = out / f"side-by-side.{ending}"
        cv2.imwrite(str(together), explaining.side_by_side([np.asarray(one, np.uint8) for one in pictures]))
        lines.append(f"side by side, in the order of the names: {together}")
    return lines


def _add(given: argparse.Namespace) -> list[str]:
    from jobs.rating import cards

    file = Path(given.file)
    if file.suffix in (".yaml", ".yml"):
        heads = cards.read(file, given.lake)
    elif file.suffix == ".safetensors":
        heads = [store.copied(given.lake, uris.canonical(given.file, base=str(Path.cwd())))]
    else:
        raise ConfigError(f"FILE: must end in .yaml or .safetensors, got {given.file!r}")
    known = store.keys(given.lake)
    for head in heads:
        if head.key in known:
            raise InputError(f"{head.key} is there already: name another revision")
    cards.check_networks(heads)
    for head in heads:
        store.write(given.lake, head)
    return [f"{head.key}: {head.kind}, for {head.model}" for head in heads]


def _list(given: argparse.Namespace) -> list[str]:
    return [
        f"{one.head.key}  {one.head.kind}  {one.head.model}  {one.head.about.get('licence') or 'licence not told'}"
        for one in store.all_of(given.lake)
    ] or ["no ratings"]


def _remove(given: argparse.Namespace) -> list[str]:
    if given.name not in store.keys(given.lake):
        raise InputError(f"no rating {given.name!r} (there are: {', '.join(store.keys(given.lake)) or 'none'})")
    store.remove(given.lake, given.name)
    return [f"{given.name} removed; its rows go with the next run"]


_COMMANDS: dict[str, Run] = {
    "fit": _fit, "suggest": _suggest, "explain": _explain, "add": _add, "list": _list, "remove": _remove,
}  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Raises RunError."""
    given = parser().parse_args(argv)
    given.lake = existing(named(given.lake))
    try:
        lines = _COMMANDS[given.what](given)
    except models.ModelError as error:
        raise ConfigError(str(error)) from error
    except StoreError as error:
        raise InputError(str(error)) from error
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0
