"""Label Studio: tasks with our finding as a prediction, and what people have chosen in them.

Formats: https://labelstud.io/guide/tasks, /guide/predictions and /guide/export: a task has data, and annotations and
predictions with a result of choices. docs/serve.md has the labelling configuration that goes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from jobs import __version__
from jobs.reviews.rows import Decided, FormatError, Given, Rows, field, in_words, needed, objects, text
from jobs.tables import RELABEL, REMOVE
from udfs.stores import uris

LOCAL = "/data/local-files/"  # under which Label Studio shows files of its LOCAL_FILES_DOCUMENT_ROOT
DECISION, LABEL, NOTE, IMAGE = "decision", "label", "note", "image"  # tags of the configuration


def looks_so(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "data" in value[0]


def write(file: Path, rows: Rows) -> int:
    """Writes a task for each image and returns how many."""
    count = 0
    with file.open("w", encoding="utf-8") as out:
        out.write("[")
        for row in rows():
            out.write(("," if count else "") + "\n" + text(_task(row)))
            count += 1
        out.write("\n]\n")
    return count


def read(value: Any) -> list[Given]:
    """What was chosen last in each task, cancelled annotations left out. A choice of the tag `decision` is a decision,
    of any other tag a label. Raises FormatError."""
    given = []
    for place, task in objects(value, "task"):
        data = needed(task, "data", dict, place)
        made = [
            (where, each)
            for where, each in objects(task.get("annotations") or [], f"{place}.annotations")
            if not field(each, "was_cancelled", bool, where)
        ]
        if not made:
            continue
        where, last = max(made, key=lambda each: field(each[1], "updated_at", str, each[0]) or "")
        chosen = _chosen(last.get("result"), f"{where}.result")
        if chosen.keys() & {DECISION, LABEL}:
            uri = field(data, "uri", str, f"{place}.data") or _uri_of(field(data, IMAGE, str, f"{place}.data"))
            image_id = field(data, "image_id", int, f"{place}.data")
            decision = chosen.get(DECISION)
            label = chosen.get(LABEL) if decision in (None, RELABEL) else None
            given.append(Given(place, uri, image_id, decision, label, chosen.get(NOTE)))
    return given


def _chosen(result: Any, place: str) -> dict[str, str]:
    """The one value of each of our tags, other choices counting as a label."""
    chosen: dict[str, str] = {}
    for where, each in objects(result, place):
        kind, tag = field(each, "type", str, where), field(each, "from_name", str, where)
        if kind == "choices":
            tag, values = (DECISION if tag == DECISION else LABEL), "choices"
        elif kind == "textarea" and tag == NOTE:
            values = "text"
        else:
            continue
        inside = needed(each, "value", dict, where)
        texts = inside.get(values)
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
            raise FormatError(f"{where}.value.{values}: must be a list of texts")
        if not texts:
            continue
        if values == "choices" and (len(texts) > 1 or chosen.get(tag, texts[0]) != texts[0]):
            raise FormatError(f"{where}: has more than one choice ({', '.join(texts[:3])})")
        chosen[tag] = "\n".join(texts)
    return chosen


def _task(row: Decided) -> dict[str, Any]:
    task: dict[str, Any] = {
        "data": {IMAGE: _shown(row.uri), "uri": row.uri, "image_id": row.image_id,
                 "label": in_words(row.own_labels) or "", "issues": ", ".join(row.issues)},
    }  # fmt: skip
    if row.suggestion in (REMOVE, RELABEL):
        result = _result(row.suggestion, row.suggested_label if row.suggestion == RELABEL else None, None)
        task["predictions"] = [{"model_version": f"imagesieve {__version__}", "result": result}]
    if row.decision is not None:
        task["annotations"] = [{"result": _result(row.decision, row.label, row.note), "created_at": row.at}]
    return task


def _result(decision: str, label: str | None, note: str | None) -> list[dict[str, Any]]:
    found = [{"from_name": DECISION, "to_name": IMAGE, "type": "choices", "value": {"choices": [decision]}}]
    if label:
        found.append({"from_name": LABEL, "to_name": IMAGE, "type": "choices", "value": {"choices": [label]}})
    if note:
        found.append({"from_name": NOTE, "to_name": IMAGE, "type": "textarea", "value": {"text": [note]}})
    return found


def _shown(uri: str) -> str:
    """Where Label Studio finds it: its own address for local files, with `/` as the root."""
    return uri if uris.is_s3(uri) else f"{LOCAL}?d={quote(uri.removeprefix('/').encode('utf-8', 'surrogateescape'))}"


def _uri_of(shown: str | None) -> str | None:
    if shown is None or not shown.startswith(LOCAL):
        return shown
    return next(iter(parse_qs(urlsplit(shown).query).get("d", [])), None)
