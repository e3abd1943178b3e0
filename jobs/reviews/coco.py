"""COCO: images, categories, and an annotation for each label of an image that stays, over all of it.

Format: https://cocodataset.org/#format-data. What was decided lies in `imagesieve` of each image, a field of our own,
which other programs pass over: image_id, decision, label, note, by, at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs import __version__
from jobs.reviews.rows import Decided, FormatError, Given, Rows, field, needed, objects, text
from jobs.tables import KEEP, RELABEL

OWN = "imagesieve"


def looks_so(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("images"), list) and "annotations" in value


def write(file: Path, rows: Rows) -> int:
    """Writes it row by row and returns how many images it holds."""
    categories: dict[str, int] = {}
    count = 0
    with file.open("w", encoding="utf-8") as out:
        out.write('{"info": ' + text({"description": f"decisions of imagesieve {__version__}"}) + ',\n"images": [')
        for row in rows():
            out.write(("," if count else "") + "\n" + text(_image(row)))
            count += 1
        out.write('\n],\n"annotations": [')
        places = 0
        for row in rows():
            for label in row.final_labels if row.decision in (None, KEEP, RELABEL) else ():
                category = categories.setdefault(label, len(categories) + 1)
                out.write(("," if places else "") + "\n" + text(_annotation(row, places + 1, category)))
                places += 1
        listed = [{"id": number, "name": name, "supercategory": ""} for name, number in categories.items()]
        out.write('\n],\n"categories": ' + text(listed) + "}\n")
    return count


def read(value: Any) -> list[Given]:
    """Decisions of a COCO file: those of `imagesieve` where there are any, else the categories of an image's
    annotations. Images without either are left out. Raises FormatError."""
    names: dict[int, str] = {}
    for place, each in objects(value.get("categories", []), "categories"):
        names[needed(each, "id", int, place)] = needed(each, "name", str, place)
    found: dict[int, set[str]] = {}
    for place, each in objects(value.get("annotations"), "annotations"):
        category = needed(each, "category_id", int, place)
        if category not in names:
            raise FormatError(f"{place}.category_id: there is no category {category}")
        found.setdefault(needed(each, "image_id", int, place), set()).add(names[category])
    given = []
    for place, each in objects(value.get("images"), "images"):
        uri = needed(each, "file_name", str, place)
        own = field(each, OWN, dict, place)
        labels = found.get(needed(each, "id", int, place), set())
        if own is not None and own.get("decision") is not None:
            inside = f"{place}.{OWN}"
            given.append(
                Given(place, field(own, "uri", str, inside) or uri, field(own, "image_id", int, inside),
                      needed(own, "decision", str, inside), field(own, "label", str, inside),
                      field(own, "note", str, inside))
            )  # fmt: skip
        elif len(labels) > 1:
            given.append(Given(place, uri, None, None, labels=tuple(sorted(labels))))
        elif labels:
            given.append(Given(place, uri, None, None, next(iter(labels))))
    return given


def _image(row: Decided) -> dict[str, Any]:
    own = {"image_id": row.image_id, "decision": row.decision, "label": row.label, "note": row.note, "by": row.by,
           "at": row.at}  # fmt: skip
    return {"id": row.image_id, "file_name": row.uri, "width": row.width, "height": row.height, OWN: own}


def _annotation(row: Decided, number: int, category: int) -> dict[str, Any]:
    return {
        "id": number, "image_id": row.image_id, "category_id": category, "bbox": [0, 0, row.width, row.height],
        "area": row.width * row.height, "segmentation": [], "iscrowd": 0,
    }  # fmt: skip
