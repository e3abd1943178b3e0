"""What a lake of up to a billion images asks of each stage: bytes, products, memory and money, on paper.

    python -m tests.bench.scale

prints docs/scale.md. The arithmetic is that of the code (udfs.vectors.cells.layout, udfs.vectors.recall.expected); the
CPU times are those of conf/measured.yaml. Nothing is run.
"""

import sys
from pathlib import Path

from emr.costs import stage_work
from emr.costs.stage_work import DIMENSION, Measured
from jobs import config
from jobs.cleaning import prices as price_file
from jobs.cleaning.prices import Prices
from udfs.vectors import cells, recall, search

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "scale.md"
TEMPLATE = ROOT / "tests" / "bench" / "scale_page.md"
SOURCES = {
    "catalog": "slope from 50,000 to 400,000 references of a manifest, tests.bench.catalog",
    "embed": "slope from 2,000 to 8,000 images, tests.bench.embed",
    "neighbours": "slope from 50,000 to 500,000 vectors, tests.bench.neighbours, and tests.bench.cell_search",
    "clusters": "slope from 20,000 to 100,000 images, tests.bench.stages",
    "labels": "slope from 20,000 to 80,000 images, tests.bench.issues",
    "content": "the same",
    "issues": "the same",
    "map": "slope from 20,000 to 50,000 vectors, tests.bench.map",
}
SIZES = (10**5, 10**6, 10**7, 10**8, 10**9)
COSINES = (0.5, 0.65, 0.8, 0.88, 0.95)
CELLS = (4, 16, 64, 256, 1024, 4096, 16384)
DRAWS = 400


def quantity(value: float, units: str = "") -> str:
    """Such as 2.56 T."""
    for power, name in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= power:
            return f"{value / power:.3g} {name}{units}"
    return f"{value:,.0f} {units}".strip()


def table(*rows: tuple[object, ...]) -> str:
    """Markdown of a head and its rows."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def page(measured: Measured, prices: Prices) -> str:
    settings = config.load().neighbours
    node = prices.instances[prices.fleets.cpu]
    dollars = (node.usd_per_hour + node.emr_usd_per_hour) / node.vcpus / 3600
    speed = node.vcpu_speed * prices.assumptions.utilisation
    plans = [stage_work.search_plan(images, settings) for images in SIZES]
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
        pair_recall=f"{measured.neighbours.pair_recall:.2%}".replace("%", " %"),
        node=prices.fleets.cpu,
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
                    stage, f"{ms * largest.images / 3.6e6:,.0f} core hours",
                    f"${ms / 1000 * largest.images / speed * dollars:,.0f}", source,
                )
                for stage, source in SOURCES.items()
                for ms in [stage_work.cpu_ms(stage, largest.images, measured.embed.image_bytes, measured)]
            ],
        ),
    )  # fmt: skip


def main() -> int:
    sys.stdout.write(page(stage_work.load(), price_file.load()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
