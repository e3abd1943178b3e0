"""Safe folders: folders of which somebody has said that all in them is fine, and what came into them later.

Such a word is a decision `keep` of every picture that lies under the folder and is undecided, one batch whose note
names the folder. It says nothing of pictures that come later: they are counted here, until somebody keeps them too."""

from __future__ import annotations

from typing import Any

from jobs.serve.batches import MOST_NOTE, Batch, DecisionError
from jobs.serve.decisions import Decisions
from jobs.serve.facets.folders import Folders
from jobs.tables import KEEP

NOTE = "all of this folder is fine: "
SHOWN = 100


def note_of(folder: str) -> str:
    """Of the batch that keeps a folder. Raises DecisionError."""
    note = NOTE + folder
    if len(note) > MOST_NOTE or not folder.endswith("/"):
        raise DecisionError(f"folder: a path that ends with a slash, of at most {MOST_NOTE - len(NOTE)} characters")
    return note


def safe(folders: Folders, decisions: Decisions) -> list[dict[str, Any]]:
    """The SHOWN folders that were marked last, each once, with how many pictures under each were kept by that, and how
    many are undecided now."""
    marked: dict[str, list[Batch]] = {}
    for batch in reversed(decisions.standing()):
        if batch.decision == KEEP and (batch.note or "").startswith(NOTE):
            folder = str(batch.note).removeprefix(NOTE)
            if folder in marked or len(marked) < SHOWN:
                marked.setdefault(folder, []).append(batch)
    undecided = folders.counted(decisions.column().codes == 0, list(marked))
    return [
        {"folder": folder, "by": batches[0].by, "at": batches[0].at, "kept": sum(len(b.ids) for b in batches),
         "undecided": left}
        for (folder, batches), left in zip(marked.items(), undecided, strict=True)
    ]  # fmt: skip
