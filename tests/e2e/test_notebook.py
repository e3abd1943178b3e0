"""The notebooks run on a lake, and are committed without what a run leaves in them."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import psutil
import pytest
from imagesieve import RunError

from jobs import tables
from jobs.findings.formulas import QUALITY
from tests.e2e.conftest import Labelled
from tests.e2e.lakes import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IMPORTS = {"imagesieve", "json", "matplotlib", "numpy", "os", "pandas", "pathlib", "tempfile"}
of_each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def outputs(cell: Any) -> str:
    """What a cell printed and showed as text."""
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join(texts)


def code(book: Any) -> list[Any]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def test_there_are_four() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["clean", "explore", "search", "trends"]


@of_each
def test_committed_without_output(path: Path) -> None:
    """Catches output, counts, a private path or a server's token that was saved with the notebook."""
    book = read(path)
    nbformat.validate(book)
    for cell in code(book):
        assert (cell.outputs, cell.execution_count) == ([], None), cell.id
    assert set(book.metadata) <= {"kernelspec", "language_info"}
    assert not {"/home/", "/embedded/"} & set(re.findall(r"/home/|/embedded/", path.read_text(encoding="utf-8")))


@of_each
def test_only_the_front_door(path: Path) -> None:
    """Catches a notebook that reads files of the lake by itself, so that users learn what may change."""
    sources = "\n".join(cell.source for cell in code(read(path)))
    assert set(re.findall(r"^\s*(?:import|from) (\w+)", sources, re.MULTILINE)) <= IMPORTS
    assert "._" not in sources


def test_all_limits_are_drawn() -> None:
    """Catches a score with a limit that came after the notebook."""
    book = read(ROOT / "notebooks" / "explore.ipynb")
    cell = next(cell.source for cell in book.cells if "LIMITS = {" in cell.source)
    named = dict(re.findall(r'"(\w+_score)": "(\w+)"', cell))
    outliers = {"outlier_score": tables.OUTLIER, "class_outlier_score": tables.CLASS_OUTLIER}
    assert named == {score: issue for issue, score in QUALITY.items()} | outliers


@of_each
def test_text_before_each_section(path: Path) -> None:
    """Catches code without a word of explanation: a title, then one cell of code after each text."""
    kinds = "".join("m" if cell.cell_type == "markdown" else "c" for cell in read(path).cells)
    assert kinds.startswith("mc")
    assert "cc" not in kinds


def ran(path: Path, labelled: Labelled, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What each cell says on a copy of the lake."""
    shutil.copytree(labelled.lake, folder / "lake")
    monkeypatch.setenv("IMAGESIEVE_LAKE", str(folder / "lake"))
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(folder / "cache"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.setenv("MPLCONFIGDIR", str(folder / "matplotlib"))
    # A kernel of this Python: the kernelspec `python3` may belong to another one.
    kernels = folder / "jupyter" / "kernels" / "python3"
    kernels.mkdir(parents=True)
    (kernels / "kernel.json").write_text(
        f'{{"argv": ["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"], '
        '"display_name": "Python 3", "language": "python"}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    book = read(path)
    nbclient.NotebookClient(book, timeout=180, resources={"metadata": {"path": str(path.parent)}}).execute()
    if any("lake.show(" in cell.source for cell in code(book)):
        shown = next(each for cell in code(book) for each in cell.outputs if "/embedded/" in str(each))
        assert shown["data"]["text/html"].startswith('<iframe src="http://127.0.0.1:')
    served = [each for each in psutil.process_iter(["cmdline"]) if str(folder / "lake") in (each.info["cmdline"] or [])]
    assert not psutil.wait_procs(served, timeout=20)[1]
    return {cell.id: outputs(cell) for cell in code(book)}


def test_explore(labelled: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a table or column that was renamed, a cell that fails where an issue does not occur, and a server that
    outlives its kernel."""
    said = ran(ROOT / "notebooks" / "explore.ipynb", labelled, tmp_path, monkeypatch)
    assert "embeddings" in said["tables"]
    assert "exact_duplicate" in said["issues"]
    assert "issue=near_duplicate" in said["show"]
    assert "truncated" in said["failures"]
    assert "Figure" in said["scores"]
    assert "removable" in said["sql"]


def test_clean(labelled: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches lists of other columns, and counts that do not add up."""
    said = ran(ROOT / "notebooks" / "clean.ipynb", labelled, tmp_path, monkeypatch)
    assert "exact_duplicate" in said["suggested"]
    counted = re.search(r"(\d+) kept, (\d+) left out", said["lists"])
    assert counted is not None
    assert sum(map(int, counted.groups())) == len(labelled.snapshot["images"])
    assert "exact_duplicate" in said["why"]
    assert "share" in said["labels"]


def test_search(labelled: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a search without an answer, and groups of other rows than those that were found."""
    said = ran(ROOT / "notebooks" / "search.ipynb", labelled, tmp_path, monkeypatch)
    for cell in ("words", "like", "where"):
        assert "score" in said[cell], cell
    assert "cluster" in said["groups"]


@of_each
def test_other_folder_says_what_to_do(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback from deep inside a reader, where a lake is missing, in place of what to do."""
    monkeypatch.setenv("IMAGESIEVE_LAKE", str(tmp_path))
    with pytest.raises(RunError, match="run `imagesieve run` first"):
        exec(compile(code(read(path))[0].source, path.name, "exec"), {})


def test_trends(labelled: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a view or a column that was renamed, and a cell that fails where nobody has decided anything."""
    said = ran(ROOT / "notebooks" / "trends.ipynb", labelled, tmp_path, monkeypatch)
    assert "mean_quality" in said["weeks"]
    assert "exact_duplicate" in said["issues"]
    assert "bytes_saved" in said["copies"]
    assert "images_read" in said["costs"]
    assert "precision_of_issue" in said["agreement"]
