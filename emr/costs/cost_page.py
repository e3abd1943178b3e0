"""`imagesieve emr cost`: hours and dollars of each stage on each kind of cluster, as a page of tables."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from emr.costs import stage_work
from emr.costs.cost import check, estimate, requests, storage_usd_per_month
from emr.costs.hardware import KINDS
from emr.costs.stage_work import STAGES, Measured
from jobs.cleaning import prices as price_file
from jobs.cleaning.prices import Prices


def usd(value: float) -> str:
    """Three figures, and no cent of what costs hundreds."""
    value = float(f"{value:.3g}")
    if value == 0:
        return "$0"
    digits = max(0, 2 - math.floor(math.log10(value)))
    return f"${value:,.{digits}f}" if digits < 6 else "below $0.00001"


def time_text(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"


def count_text(images: float) -> str:
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if images >= unit:
            return f"{images / unit:g} {name}"
    return f"{images:,.0f}"


def table(*rows: Sequence[str]) -> str:
    """Markdown, its columns as wide as their longest cell. rows: the head first."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], ["-" * width for width in widths], *lines[1:]])


def stage_table(images: float, image_bytes: float, prices: Prices, measured: Measured) -> str:
    """A row a stage; hours, and dollars on demand and on spot, for each kind of cluster."""
    head, columns = ["stage"], []
    for kind in KINDS:
        normal, cheap = (
            estimate(kind, images, image_bytes, spot=spot, prices=prices, measured=measured) for spot in (False, True)
        )
        head += [f"{kind}: {normal.fleet.text}", "on demand"]
        columns += [[time_text(cost.hours) for cost in normal.stages] + [time_text(normal.hours)]]
        columns += [[usd(cost.usd) for cost in normal.stages] + [usd(normal.usd)]]
        if kind != "serverless":
            head += ["spot"]
            columns += [[usd(cost.usd) for cost in cheap.stages] + [usd(cheap.usd)]]
    lacking = measured.lacks(STAGES)
    names = [f"{cost.stage} (not measured)" if cost.stage in lacking else cost.stage for cost in normal.stages]
    names.append("in all")
    return table(head, *[[name, *[column[row] for column in columns]] for row, name in enumerate(names)])


def instance_table(image_bytes: float, prices: Prices, measured: Measured) -> str:
    """What one node of each instance embeds, and why it is thought to."""
    rows = []
    for instance in prices.instances.values():
        if instance.name == prices.fleets.primary:
            continue
        on_gpu = instance.gpu_images_per_s is not None
        ms = measured.embed.ms(image_bytes, with_model=not on_gpu)
        by_cores = instance.vcpus * instance.vcpu_speed * 1000 / ms * prices.assumptions.utilisation
        by_gpu = (instance.gpu_images_per_s or math.inf) * prices.assumptions.utilisation
        rate = min(by_cores, by_gpu)
        hour = instance.usd_per_hour + instance.emr_usd_per_hour
        rows.append([instance.name, f"{rate:,.0f}", "GPU" if by_gpu < by_cores else "vCPUs", usd(hour),
                     usd(hour / rate / 3600 * 1e6), f"{instance.vcpu_speed:g}", instance.why])  # fmt: skip
    head = ["instance", "images/s, embed", "held back by its", "an hour, on demand", "a million images",
            "vCPU by a measured core, assumed", "why so"]  # fmt: skip
    return table(head, *rows)


def s3_table(images: float, image_bytes: float, prices: Prices, measured: Measured) -> str:
    single, shards = (requests(images, image_bytes, prices, shards=shards) for shards in (False, True))
    given = prices.assumptions
    inventory = images / 1e6 * prices.s3.inventory_usd_per_million
    return table(
        ["S3", "cost"],
        ["GET, single objects", usd(single.images_usd)],
        [
            f"GET, in tar shards, ranges of up to {given.range_bytes / 2**20:g} MB, {given.shard_passes:g} times",
            usd(shards.images_usd),
        ],
        ["LIST, single objects", usd(single.listing_usd)],
        ["or S3 Inventory, one report", usd(inventory)],
        ["PUT and GET of the tables", usd(single.tables_usd)],
        ["keeping features and embeddings, a month", usd(storage_usd_per_month(images, measured, prices))],
    )


def claim_text(image_bytes: float, prices: Prices, measured: Measured) -> str:
    claim = prices.claim
    lines = [
        f"{count_text(claim.images)} images embedded in {claim.hours:g} hours for {usd(claim.usd)} of compute, S3's",
        f"requests not counted: {claim.source}. The embed stage alone, by the figures above:",
        "",
    ]
    for kind in KINDS:
        on_demand, spot = (
            estimate(kind, claim.images, image_bytes, ("embed",), spot=spot, prices=prices, measured=measured)
            for spot in (False, True)
        )
        cheaper = "" if kind == "serverless" else f", {usd(spot.usd)} on spot ({spot.usd / claim.usd:.2f})"
        lines.append(
            f"- {kind}, {on_demand.fleet.text}: {time_text(on_demand.hours)}, {usd(on_demand.usd)} on demand "
            f"({on_demand.usd / claim.usd:.2f} of the claim){cheaper}"
        )
    return "\n".join(lines)


_BASIS = """
- *Fleet*: the smallest that is done within {within_hours:g} hours, all nodes alike; on EC2 two {primary} more, as the
  primary and the core node, on serverless one worker more as the driver, on demand. All nodes are paid to the end;
  managed scaling lets go of idle ones, which is not counted.
- *start*: {start:.0f} minutes until a cluster takes work, assumed. What a stage takes to start is in its own time.
- *gpu*: `embed` by the slower of GPU and vCPUs, the other stages on the vCPUs of the same nodes. Cheaper is
  `--cluster gpu --stages catalog,embed`, then a `cpu` cluster for the rest. **No GPU was measured.**
- *Disks* for the shuffle of `neighbours` are counted: {disk_slack:g} times its size, at least {disk_gb:g} GB a node.
  Traffic between zones, CloudWatch and Athena are not.
- CPU time of `embed`: {cpu_ms:.2f} ms an image of {kb:,.0f} KB, of it {without_model_ms:.2f} without inference;
  without inference it took {by_size}. {s3_ms:.2f} ms are for S3 (a local
  server, without TLS). Measured on {machine}, {as_of}.
- Utilisation of the fleet {utilisation:.0%}, spot {spot_discount:.0%} off EC2's price, none off EMR's part: assumed.
- A stage beyond what was measured (500,000 vectors, 80,000 images) is its slope times its images; docs/scale.md has the
  arithmetic of `neighbours`.
"""


def page(sizes: Sequence[float], image_bytes: float, prices: Prices, measured: Measured) -> str:
    """All of it, as Markdown that reads well in a terminal, too."""
    embed = measured.embed
    by_size = ", ".join(f"{ms:.1f} ms at {size / 1000:,.0f} KB" for size, ms in embed.by_size)
    parts = [
        "# What it costs",
        "**Nothing here ran on AWS: every amount is projected** from CPU time that was measured and from prices and\n"
        "assumptions: edit conf/prices.yaml and conf/measured.yaml, and run the command again.",
        f"Prices: {prices.region}, {prices.as_of}. {prices.source.rstrip('.')}.",
    ]
    for images in sizes:
        single, shards = (requests(images, image_bytes, prices, shards=shards).usd for shards in (False, True))
        parts += [
            f"## {count_text(images)} images of {image_bytes / 1000:,.0f} KB",
            stage_table(images, image_bytes, prices, measured),
            f"S3's requests come on top: {usd(single)} from single objects, {usd(shards)} from tar shards:",
            s3_table(images, image_bytes, prices, measured),
        ]
    parts += [
        "## What the figures rest on",
        _BASIS.format(
            **asdict(prices.assumptions), primary=prices.fleets.primary, start=prices.assumptions.start_hours * 60,
            cpu_ms=embed.cpu_ms, kb=embed.image_bytes / 1000, without_model_ms=embed.without_model_ms,
            by_size=by_size, s3_ms=embed.s3_ms, machine=measured.machine, as_of=measured.as_of,
        ),
        instance_table(image_bytes, prices, measured),
        f"Serverless: {prices.serverless.vcpu_speed:g} of a measured core a vCPU, assumed: {prices.serverless.why}.",
        "## The known claim",
        claim_text(image_bytes, prices, measured),
    ]  # fmt: skip
    return "\n\n".join(part.strip() for part in parts) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=float, nargs="+", default=[1e6, 1e9], metavar="N", help="such as 1e9")
    parser.add_argument("--bytes-per-image", type=float, default=1e5, metavar="BYTES", help="such as 1e5")
    parser.add_argument("--prices", type=Path, metavar="FILE", help="in place of conf/prices.yaml")
    parser.add_argument("--measured", type=Path, metavar="FILE", help="in place of conf/measured.yaml")


def run(arguments: argparse.Namespace) -> int:
    prices, measured = price_file.load(arguments.prices), stage_work.load(arguments.measured)
    for images in arguments.images:
        check("cpu", images, arguments.bytes_per_image, STAGES)
    sys.stdout.write(page(arguments.images, arguments.bytes_per_image, prices, measured))
    return 0
