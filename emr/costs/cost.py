"""What the stages cost on each kind of cluster, from measured slopes and dated prices. Nothing is fetched or run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from emr.costs import stage_work
from emr.costs.hardware import KINDS
from emr.costs.stage_work import STAGES, Measured
from jobs.cleaning import prices as price_file
from jobs.cleaning.prices import Prices
from jobs.errors import ConfigError

HOURS_OF_A_MONTH = 730
FIXED_NODES = 2  # the primary and the one core node, which EMR wants for HDFS; alike, and always on demand
SPARK_CORES = 2  # of the driver, that the start of a stage keeps busy
MOST_IMAGES = 1e11


@dataclass(frozen=True)
class Fleet:
    """Nodes that work, all alike. speed: measured cores of all of them together, while they work. node_usd: of a node
    and hour. disk_gb: of a node. fixed_usd: an hour, of the primary and the core node, or of the driver."""

    text: str
    nodes: int
    speed: float
    gpu_images_per_s: float
    node_usd: float
    fixed_usd: float
    disk_gb: float
    start_speed: float

    @property
    def usd_per_hour(self) -> float:
        return self.nodes * self.node_usd + self.fixed_usd


@dataclass(frozen=True)
class StageCost:
    stage: str
    hours: float
    usd: float


@dataclass(frozen=True)
class Estimate:
    """fleet: what is priced. hours, usd: from the start of the cluster to the end of the last stage, without S3's
    requests. usd_per_hour: while it runs. stages: the first is "start", where a cluster is started."""

    fleet: Fleet
    hours: float
    usd: float
    usd_per_hour: float
    stages: list[StageCost]
    notes: list[str]


@dataclass(frozen=True)
class Requests:
    """Dollars by kind of request to S3: reading the images, listing them, and writing and reading the tables."""

    images_usd: float
    listing_usd: float
    tables_usd: float

    @property
    def usd(self) -> float:
        return self.images_usd + self.listing_usd + self.tables_usd


def estimate(
    kind: str,
    images: float,
    image_bytes: float,
    stages: Sequence[str] = STAGES,
    *,
    spot: bool = True,
    prices: Prices | None = None,
    measured: Measured | None = None,
) -> Estimate:
    """kind: one of KINDS. spot: the nodes that work, where EC2 has them; EMR Serverless has none.

    The fleet is the smallest that is done within assumptions.within_hours. Raises ConfigError: an unknown kind or
    stage, images outside 1..10^11, image_bytes outside 1..10^9, or work that does not grow less with more nodes and
    takes longer than is allowed."""
    prices, measured = prices or price_file.load(), measured or stage_work.load()
    check(kind, images, image_bytes, stages)
    start = prices.assumptions.start_hours
    allowed = prices.assumptions.within_hours - start
    one = _fleet(kind, 1, images, stages, spot, prices)
    begin = {stage: _start_hours(stage, one, measured) for stage in stages}
    spread = sum(_hours(stage, images, image_bytes, one, kind, measured) for stage in stages)
    left = allowed - sum(begin.values())
    if left <= 0:
        raise ConfigError(f"starting the stages takes {sum(begin.values()):.1f} h, more than within_hours allows")
    fleet = _fleet(kind, max(1, math.ceil(spread / left)), images, stages, spot, prices)
    costs = [StageCost("start", start, start * fleet.usd_per_hour)]
    for stage in stages:
        hours = begin[stage] + _hours(stage, images, image_bytes, fleet, kind, measured)
        costs.append(StageCost(stage, hours, hours * fleet.usd_per_hour))
    return Estimate(
        fleet,
        sum(cost.hours for cost in costs),
        sum(cost.usd for cost in costs),
        fleet.usd_per_hour,
        costs,
        notes(kind, stages, spot, prices, measured),
    )


def check(kind: str, images: float, image_bytes: float, stages: Sequence[str]) -> None:
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of cluster {kind!r}, there are {', '.join(KINDS)}")
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages:
        raise ConfigError(f"unknown stage {unknown[0]!r}" if unknown else "no stage given")
    if not 1 <= images <= MOST_IMAGES:
        raise ConfigError(f"the number of images must be 1..{MOST_IMAGES:g}, got {images:g}")
    if not 1 <= image_bytes <= 1e9:
        raise ConfigError(f"the bytes of an image must be 1..1e9, got {image_bytes:g}")


def _fleet(kind: str, nodes: int, images: float, stages: Sequence[str], spot: bool, prices: Prices) -> Fleet:
    """Each node has its part of the neighbours' shuffle on its disk, at least assumptions.disk_gb."""
    given = prices.assumptions
    shuffle = stage_work.search_plan(max(1, int(images))).shuffle_bytes if "neighbours" in stages else 0
    disk_gb = max(given.disk_gb, shuffle / 1e9 * given.disk_slack / nodes)
    if kind == "serverless":
        worker = prices.serverless
        disk_usd = max(0.0, disk_gb - worker.free_disk_gb) * worker.usd_per_disk_gb_hour
        driver = worker.vcpus * worker.usd_per_vcpu_hour + worker.memory_gb * worker.usd_per_gb_hour
        text = f"{nodes} × worker of {worker.vcpus:g} vCPUs, {worker.memory_gb:g} GB"
        speed = nodes * worker.vcpus * worker.vcpu_speed * given.utilisation
        return Fleet(text, nodes, speed, math.inf, driver + disk_usd, driver, disk_gb, worker.vcpu_speed)
    instance = prices.instances[prices.fleets.gpu if kind == "gpu" else prices.fleets.cpu]
    first = prices.instances[prices.fleets.primary]
    ec2 = instance.usd_per_hour * (1 - given.spot_discount if spot else 1)
    gpu = instance.gpu_images_per_s
    return Fleet(
        f"{nodes} × {instance.name}",
        nodes,
        nodes * instance.vcpus * instance.vcpu_speed * given.utilisation,
        math.inf if gpu is None else nodes * gpu * given.utilisation,
        ec2 + instance.emr_usd_per_hour + disk_gb * prices.disk_usd_per_gb_month / HOURS_OF_A_MONTH,
        FIXED_NODES * (first.usd_per_hour + first.emr_usd_per_hour),
        disk_gb,
        first.vcpu_speed,
    )


def _hours(stage: str, images: float, image_bytes: float, fleet: Fleet, kind: str, measured: Measured) -> float:
    """Of the nodes; a GPU node takes as long for `embed` as the slower of its vCPUs, which fetch and decode, and its
    GPU."""
    on_gpu = kind == "gpu"
    by_cores = images * stage_work.cpu_ms(stage, int(images), image_bytes, measured, on_gpu=on_gpu) / 1000 / fleet.speed
    by_gpu = images / fleet.gpu_images_per_s if on_gpu and stage == "embed" else 0.0
    return max(by_cores, by_gpu) / 3600


def _start_hours(stage: str, fleet: Fleet, measured: Measured) -> float:
    return measured.start_cpu_s.get(stage, 0.0) / SPARK_CORES / fleet.start_speed / 3600


def requests(images: float, image_bytes: float, prices: Prices, *, shards: bool) -> Requests:
    """shards: whether the images are in tar shards, read in ranges; listing those costs nothing worth counting."""
    s3, given = prices.s3, prices.assumptions
    gets = images * image_bytes / given.range_bytes * given.shard_passes if shards else images
    lists = 0.0 if shards else images / given.keys_per_list
    puts = images * given.table_puts_per_1000 / 1000
    again = images * given.table_gets_per_1000 / 1000
    return Requests(
        gets / 1000 * s3.get_usd_per_1000,
        lists / 1000 * s3.list_usd_per_1000,
        puts / 1000 * s3.put_usd_per_1000 + again / 1000 * s3.get_usd_per_1000,
    )


def storage_usd_per_month(images: float, measured: Measured, prices: Prices) -> float:
    """Of features and embeddings, not of the images."""
    return images * measured.embed.table_bytes / 1e9 * prices.s3.storage_usd_per_gb_month


def notes(kind: str, stages: Sequence[str], spot: bool, prices: Prices, measured: Measured) -> list[str]:
    """What an estimate rests on, for a person."""
    told = [
        f"projected from CPU time measured on {measured.machine} ({measured.as_of}); nothing has run on AWS",
        f"prices of conf/prices.yaml ({prices.region}, {prices.as_of}): check them",
    ]
    if lacking := measured.lacks(stages):
        told.append(f"not measured, and counted as nothing: {', '.join(lacking)}")
    if spot and kind != "serverless":
        told.append(f"spot is taken to be {prices.assumptions.spot_discount:.0%} below EC2's price on demand")
    if kind == "gpu":
        told.append("no GPU was measured; stages after embed use the vCPUs of the same nodes")
    return told
