"""The notebook runs on a lake, and is committed without what a run leaves in it."""

import re
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from jobs import tables
from jobs.findings.scores import QUALITY
from tests.e2e.conftest import Labelled
from tests.e2e.lakes import ROOT

NOTEBOOK = ROOT / "notebooks" / "explore.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def outputs(cell: Any) -> str:
    """What a cell printed and showed as text."""
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join(texts)


def test_committed_without_output() -> None:
    """Catches output, counts or a private path that was saved with the notebook."""
    book = read()
    nbformat.validate(book)
    for cell in book.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None), cell.id
    assert set(book.metadata) <= {"kernelspec", "language_info"}
    assert "/home/" not in NOTEBOOK.read_text(encoding="utf-8")


def test_all_limits_are_drawn() -> None:
    """Catches a score with a limit that came after the notebook."""
    cell = next(cell.source for cell in read().cells if "LIMITS = {" in cell.source)
    named = dict(re.findall(r'"(\w+_score)": "(\w+)"', cell))
    outliers = {"outlier_score": tables.OUTLIER, "class_outlier_score": tables.CLASS_OUTLIER}
    assert named == {score: issue for issue, score in QUALITY.items()} | outliers


def test_text_before_each_section() -> None:
    """Catches code without a word of explanation: a title, then at most two cells of code in a row."""
    kinds = "".join("m" if cell.cell_type == "markdown" else "c" for cell in read().cells)
    assert kinds.startswith("mc")
    assert "ccc" not in kinds


def test_runs_on_a_lake(labelled: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a table or column that was renamed, and a cell that fails where an issue does not occur."""
    monkeypatch.setenv("IMAGESIEVE_LAKE", str(labelled.lake))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    # A kernel of this Python: the kernelspec `python3` may belong to another one.
    kernels = tmp_path / "jupyter" / "kernels" / "python3"
    kernels.mkdir(parents=True)
    (kernels / "kernel.json").write_text(
        f'{{"argv": ["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"], '
        '"display_name": "Python 3", "language": "python"}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    book = read()
    nbclient.NotebookClient(book, timeout=180, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    said = {cell.id: outputs(cell) for cell in book.cells if cell.cell_type == "code"}
    assert "embeddings" in said["tables"]
    assert "exact_duplicate" in said["issues"]
    assert "truncated" in said["failures"]
    assert "Figure" in said["clusters"]
    assert "Figure" in said["scores"]
    assert "Figure" in said["neighbours"]
    assert float(said["vectors"]) < 1e-5
    assert "removable" in said["duckdb"]


def test_other_folder_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback from deep inside a reader, where a lake is missing, in place of what to do."""
    monkeypatch.setenv("IMAGESIEVE_LAKE", str(tmp_path))
    first = next(cell for cell in read().cells if cell.cell_type == "code")
    with pytest.raises(FileNotFoundError, match="make demo"):
        exec(compile(first.source, "explore.ipynb", "exec"), {})
