"""FiftyOne: labels.json of a FiftyOneImageClassificationDataset by whole paths, with decisions as attributes.

Format: https://docs.voxel51.com/user_guide/import_datasets.html#fiftyoneimageclassificationdataset: labels are texts
where there are no classes, and a label may be an object with attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.reviews.rows import Decided, FormatError, Given, Rows, field, in_words, text


def looks_so(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("labels"), dict)


def write(file: Path, rows: Rows) -> int:
    """Writes it row by row and returns how many images it holds."""
    count = 0
    with file.open("w", encoding="utf-8") as out:
        out.write('{"labels": {')
        for row in rows():
            out.write(("," if count else "") + "\n" + text(row.uri) + ": " + text(_label(row)))
            count += 1
        out.write("\n}}\n")
    return count


def read(value: Any) -> list[Given]:
    """Decisions of the attributes where there are any, else labels. Images without either are left out. Raises
    FormatError."""
    classes = field(value, "classes", list, "file")
    if classes is not None and not all(isinstance(name, str) for name in classes):
        raise FormatError("file.classes: must be a list of texts")
    given = []
    for name, target in value["labels"].items():
        place = f"labels[{name[:200]!r}]"
        inside = target if isinstance(target, dict) else {"label": target}
        label = _name_of(inside.get("label"), classes, place)
        own = field(inside, "attributes", dict, place) or {}
        decision = field(own, "decision", str, place)
        if decision is not None:
            given.append(
                Given(place, name, field(own, "image_id", int, place), decision,
                      field(own, "decided_label", str, place), field(own, "note", str, place))
            )  # fmt: skip
        elif label is not None:
            given.append(Given(place, name, None, None, label))
    return given


def _name_of(target: Any, classes: list[str] | None, place: str) -> str | None:
    if target is None:
        return None
    if classes is None:
        if not isinstance(target, str):
            raise FormatError(f"{place}: must be a text, as there are no classes")
        return target
    if not isinstance(target, int) or isinstance(target, bool) or not 0 <= target < len(classes):
        raise FormatError(f"{place}: must be the number of one of {len(classes)} classes")
    return classes[target]


def _label(row: Decided) -> dict[str, Any]:
    own = {"image_id": row.image_id, "decision": row.decision, "decided_label": row.label, "note": row.note,
           "by": row.by, "at": row.at}  # fmt: skip
    known = {name: value for name, value in own.items() if value is not None}
    return {"label": in_words(row.final_labels), "attributes": known}
