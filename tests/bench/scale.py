"""What a lake of up to a billion images asks of each stage: bytes, products, memory and money, on paper.

    python -m tests.bench.scale [--figures tests/bench/figures/scale.json] [--prices conf/prices.yaml]

prints docs/scale.md. The arithmetic is that of the code (udfs.cells.layout, udfs.recall.expected); the CPU times come
from the figures, which tests.bench.neighbours, tests.bench.stages and tests.bench.cell_search have printed. Nothing
is run.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from jobs import config
from tests.bench import cost
from udfs import cells, recall, search

ROOT = Path(__file__).resolve().parent.parent.parent
FIGURES = ROOT / "tests" / "bench" / "figures" / "scale.json"
PAGE = ROOT / "docs" / "scale.md"
TEMPLATE = ROOT / "tests" / "bench" / "scale_page.md"
SOURCES = {
    "embed": "slope from 2,000 to 8,000 images, tests.bench.embed",
    "neighbours": "slope from 50,000 to 500,000 vectors, tests.bench.neighbours, and tests.bench.cell_search",
    "clusters": "slope from 20,000 to 100,000 images, tests.bench.stages",
    "issues": "the same",
}
SIZES = (10**5, 10**6, 10**7, 10**8, 10**9)
DIMENSION = 1280
COSINES = (0.5, 0.65, 0.8, 0.88, 0.95)
CELLS = (4, 16, 64, 256, 1024, 4096, 16384)
DRAWS = 400
IMAGE_ROW = 8 + 8 + 4 + 1  # bytes of a pack beside the vector: id, key, cell, flag
LIST_ROW, NEIGHBOUR = 8 + 8 + 4, 8 + 8 + 8  # bytes of a list, and of each neighbour in it


@dataclass(frozen=True)
class Plan:
    """The neighbours stage for `images` vectors of DIMENSION numbers."""

    images: int
    cells: int
    probes: int
    task_images: int
    task_bytes: int
    shuffle_bytes: int
    operations: float


def plan(images: int, settings: config.Neighbours) -> Plan:
    """In a cell each vector meets, in the fine cells that are among the NEAR nearest of one and the probes of the
    other, about NEAR times CELL_ROWS vectors."""
    layout = cells.layout(images, DIMENSION, settings.exact_images, int(settings.cell_mb * 1e6), settings.probes)
    shuffled = images * layout.probes * (2 * DIMENSION + IMAGE_ROW + LIST_ROW + settings.k * NEIGHBOUR)
    parents = round(layout.cells**0.5) if layout.cells > cells.FLAT else 0
    looked_at = parents + cells.PARENTS * parents if parents else layout.cells
    in_cell = images * layout.probes // layout.cells
    fine = settings.fine_probes * in_cell / search.CELL_ROWS
    compared = (1 + cells.PARENTS) * fine**0.5 + search.NEAR * search.CELL_ROWS
    operations = 2.0 * DIMENSION * images * (looked_at + layout.probes * compared)
    return Plan(images, layout.cells, layout.probes, in_cell, in_cell * DIMENSION * 4, shuffled, operations)


def quantity(value: float, units: str = "") -> str:
    """Such as 2.56 T."""
    for power, name in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= power:
            return f"{value / power:.3g} {name}{units}"
    return f"{value:,.0f} {units}".strip()


def seconds_per_image(figures: dict[str, float], plan_: Plan) -> dict[str, float]:
    """CPU seconds of one image in each stage, on the measured core.

    The search inside a cell was measured at DIMENSION numbers; all else of the neighbours stage at 256, and its part
    for moving vectors is taken to grow with the numbers in one."""
    moving = figures["neighbours_ms"] - 2 * figures["search_us_256"] / 1000
    return {
        "embed": figures["embed_ms"] / 1000,
        "neighbours": moving / 1000 * DIMENSION / 256 + plan_.probes * figures["search_us_1280"] / 1e6,
        "clusters": figures["clusters_ms"] / 1000,
        "issues": figures["issues_ms"] / 1000,
    }


def table(*rows: tuple[object, ...]) -> str:
    """Markdown of a head and its rows."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def page(figures: dict[str, float], prices: cost.Prices) -> str:
    settings = config.load().neighbours
    node = prices.instances[prices.cpu]
    dollars = (node.usd_per_hour + node.emr_usd_per_hour) / node.vcpus / 3600
    speed = node.vcpu_speed * prices.assumptions["utilisation"]
    plans = [plan(images, settings) for images in SIZES]
    largest = plans[-1]
    layouts = [(count, min(count.bit_length() - 1, cells.MOST_PROBES)) for count in CELLS]
    return TEMPLATE.read_text(encoding="utf-8").format(
        dimension=DIMENSION,
        cell_mb=settings.cell_mb,
        exact=settings.exact_images,
        most_probes=cells.MOST_PROBES,
        cell_rows=search.CELL_ROWS,
        near=search.NEAR,
        draws=DRAWS,
        pair_recall=f"{figures['pair_recall']:.2%}".replace("%", " %"),
        node=prices.cpu,
        shuffle=quantity(largest.shuffle_bytes, "B"),
        centres=largest.cells,
        centre_bytes=quantity(largest.cells * DIMENSION * 4, "B"),
        plans=table(
            ("images", "cells", "cells of an image", "images of a task", "their vectors", "shuffle", "operations"),
            *[
                (
                    quantity(p.images), f"{p.cells:,}", p.probes, f"{p.task_images:,}", quantity(p.task_bytes, "B"),
                    quantity(p.shuffle_bytes, "B"), quantity(p.operations),
                )
                for p in plans
            ],
        ),
        chances=table(
            ("cells", "cells of an image", *[f"cosine {cosine:g}" for cosine in COSINES]),
            *[
                (
                    f"{count:,}", probes,
                    *[f"{recall.expected(c, count, probes, 256, DRAWS):.1%}".replace("%", " %") for c in COSINES],
                )
                for count, probes in layouts
            ],
        ),
        stages=table(
            ("stage", "CPU time", "cost, on demand", "where the CPU time of an image comes from"),
            *[
                (
                    stage, f"{seconds * largest.images / 3600:,.0f} core hours",
                    f"${seconds * largest.images / speed * dollars:,.0f}", SOURCES[stage],
                )
                for stage, seconds in seconds_per_image(figures, largest).items()
            ],
        ),
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    parser.add_argument("--prices", type=Path, default=cost.PRICES)
    options = parser.parse_args(argv)
    figures = json.loads(options.figures.read_text(encoding="utf-8"))
    sys.stdout.write(page(figures, cost.load_prices(options.prices)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
