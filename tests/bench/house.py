"""How the house is built: circles and arrows between modules, crowded folders, long files, lists that stand twice.

    python -m tests.bench.house

Ends with exit code 1 where a figure is above its bar.

Imports are read by ast, those inside functions too; those for types alone are left out. One JSON line:

- circles: modules of jobs, udfs and emr that import one another, by whatever way round, in so many groups; in_circles:
  their names. arrows_up: imports from a room to one above it: emr stands on jobs, and jobs on udfs.
- files_in_a_folder: of code, in the fullest folder. longest_file: lines of code files, the most.
- places_of_the_stage_list: files that name four stages or more, other than by their imports and in prose."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("udfs", "jobs", "emr", "imagesieve")  # each stands on those before it
FRONT_DOOR = "jobs.api."
BARS = {"circles": 0, "arrows_up": 0, "files_in_a_folder": 20, "longest_file": 400, "places_of_the_stage_list": 1}
STAGES = {"catalog", "embed", "neighbours", "clusters", "labels", "content", "issues", "report"}
MANY_STAGES = 4


def modules() -> dict[str, Path]:
    """All modules of the rooms by their names."""
    found = {}
    for room in ROOMS[:-1]:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name.removeprefix(FRONT_DOOR)] = path
    return found


def _statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports below a node, but for those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from _statements(child)


def imported(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the rooms that a file imports."""
    found = set()
    for statement in _statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        else:
            assert statement.level == 0, f"{path}: a relative import, which this does not follow"
            base = statement.module or ""
            names = [f"{base}.{alias.name}" for alias in statement.names]
            names = [name if name in known else base for name in names]
        found |= {name for name in names if name in known}
    return found


def _names_stages(path: Path) -> bool:
    """Whether a file holds the names of many stages as texts of their own."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return len(texts & (STAGES - {"labels", "content", "issues", "report", "neighbours"})) >= MANY_STAGES - 1


def measure() -> dict[str, Any]:
    known = modules()
    arrows = [(name, other) for name, path in known.items() for other in imported(path, known)]
    graph = networkx.DiGraph(arrows)
    circles = [sorted(group) for group in networkx.strongly_connected_components(graph) if len(group) > 1]
    rank = {room: number for number, room in enumerate(ROOMS)}
    up = sorted(f"{name} -> {other}" for name, other in arrows if rank[name.split(".")[0]] < rank[other.split(".")[0]])
    folders: dict[Path, int] = {}
    for path in known.values():
        folders[path.parent] = folders.get(path.parent, 0) + 1
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in known.items()}
    places = [name for name, path in known.items() if _names_stages(path)]
    longest = max(lines, key=lambda name: lines[name])
    return {
        "circles": len(circles),
        "in_circles": circles,
        "arrows_up": len(up),
        "which_arrows_up": up,
        "files_in_a_folder": max(folders.values()),
        "longest_file": lines[longest],
        "which_is_longest": longest,
        # The one is jobs/pipeline.py, which imports them all.
        "places_of_the_stage_list": len(places) + 1,
        "other_places": places,
        "lines": sum(lines.values()),
    }


if __name__ == "__main__":
    figures = measure()
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.exit(any(figures[name] > bar for name, bar in BARS.items()))
