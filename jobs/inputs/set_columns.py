"""Columns of a manifest that hold several labels an image: lists, or texts as JSON or with a separator between."""

from __future__ import annotations

import json
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, IntegralType, NullType, StringType

from jobs.errors import InputError

NAME = "labels"
MOST_LABELS, MOST_CHARACTERS = 1000, 500  # of an image, and of one
_SHOWN = 100


def with_sets(uri: str, rows: DataFrame, separator: str | None) -> DataFrame:
    """Rows in which a column `label` that holds several labels is called `labels`. A text `label` beside a column
    `labels`, as `clean` writes them, is one label. separator: of the settings. Raises InputError."""
    types = {field.name: field.dataType for field in rows.schema}
    own = types.get("label")
    if isinstance(own, ArrayType) and NAME in types:
        raise InputError(f"{uri}: the columns 'label' and 'labels' both hold several labels: name one of them only")
    in_text = separator is not None and isinstance(own, StringType) and NAME not in types
    return rows.withColumnRenamed("label", NAME) if in_text or isinstance(own, ArrayType) else rows


def value(uri: str, kind: DataType) -> Column:
    """The column as a list of texts, null where it says nothing; see made_of. Raises InputError for what is no list of
    labels. kind: its type."""
    column = F.col(NAME)
    if isinstance(kind, NullType):
        return F.lit(None).cast("array<string>")
    if isinstance(kind, StringType):
        return F.when(F.trim(column) != "", F.array(column))
    if isinstance(kind, ArrayType) and isinstance(kind.elementType, StringType | IntegralType | NullType):
        return column.cast("array<string>")
    is_given = f"is {kind.simpleString()[:_SHOWN]}"
    told = f"{uri}: a column of several labels must hold lists of texts or whole numbers, {is_given}"
    raise InputError(told if isinstance(kind, ArrayType) else f"{told}: name it `label` where it is one label an image")


def made_of(row: dict[str, Any], is_text: bool, separator: str | None) -> str | None:
    """Puts the labels of one reference in order: none empty or twice. Returns what is wrong with them, or None.

    is_text: the list holds one text, a list of JSON or, where one is set, labels with the separator between."""
    given, found = row["uri"], row[NAME]
    if found is None:
        return None
    if (row["label"] or "").strip():
        return f"{given!r} has a label and a list of labels: give one of them"
    if is_text:
        text = found[0]
        found = _of_json(text)
        if found is None and separator is None:
            told = "are no list of JSON: say what stands between them (--set catalog.label_separator='|')"
            return f"{given!r}: its labels ({text[:_SHOWN]!r}) {told}"
        if found is None:
            found = text.split(separator)
    made = sorted({name for one in found if one is not None and (name := one.strip())})
    longest = max(map(len, made), default=0)
    if longest > MOST_CHARACTERS:
        return f"{given!r} has a label of {longest:,} characters: at most {MOST_CHARACTERS:,}"
    if len(made) > MOST_LABELS:
        return f"{given!r} has {len(made):,} labels: at most {MOST_LABELS:,}"
    row[NAME] = made
    return None


def _of_json(text: str) -> list[str | None] | None:
    """A list of texts, whole numbers and null; None where it is no such list."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
        if any(isinstance(one, bool) or not isinstance(one, str | int | None) for one in found):
            return None
        texts = [None if one is None else str(one) for one in found]
        "".join(filter(None, texts)).encode()  # half of a pair of surrogates is no text
    except (ValueError, RecursionError):
        return None
    return texts
