"""Colouring: what the map is coloured by: a facet, a score, or a rating of the lake."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.engines.datasets import Opened
from jobs.rating import store
from jobs.serve.columns import NULL, STEPS, Coded, Columns
from jobs.serve.filters import DECISION, FACETS, FilterError
from jobs.serve.gallery import ALL_SCORES
from jobs.serve.maps import answers

KINDS = ("facet", "score", "rating")
RATINGS = "ratings"


def ratings(tables: Opened) -> list[str]:
    """name@revision of the ratings by which the images of a lake may have been scored."""
    return store.keys(tables.lake) if tables.at.get(RATINGS) is not None else []


def asked(given: Mapping[str, str]) -> tuple[str, str]:
    """One of KINDS, and of which name. given: the parameters of a request. Raises FilterError."""
    kinds = [kind for kind in KINDS if kind in given]
    if len(kinds) != 1:
        raise FilterError(f"colours: one of {', '.join(KINDS)}")
    kind, name = kinds[0], given[kinds[0]]
    known = {"facet": FACETS, "score": ALL_SCORES}.get(kind)
    if known is not None and name not in known:
        raise FilterError(f"{kind}: must be one of {', '.join(known)}")
    return kind, name


def colours(kind: str, name: str, columns: Columns, decisions: Coded, tables: Opened) -> bytes:
    """See answers.colours() and answers.shades(). kind, name: of asked(). Raises FilterError for a rating that the lake
    does not have."""
    if kind == "facet":
        return answers.colours(decisions if name == DECISION else columns.coded(name))
    if kind == "score":
        return answers.shades(columns.numbers(name))
    if name not in ratings(tables):
        raise FilterError(f"rating: there is no {name!r}")
    return answers.shades(_percentiles(name, columns, tables))


def _percentiles(rating: str, columns: Columns, tables: Opened) -> NDArray[np.uint16]:
    """(images,): where each image stands among all by a rating, of columns.STEPS; NULL where it was not scored."""
    found = np.full(columns.images, NULL, np.uint16)
    table = tables.get(RATINGS)
    if table is not None:
        rows = table.to_table(columns=["image_id", "percentile"], filter=pc.field("rating") == rating)
        places = columns.rows_of_ids(rows["image_id"].to_numpy())
        there = places >= 0
        found[places[there]] = np.round(rows["percentile"].to_numpy()[there] * STEPS).astype(np.uint16)
    return found
