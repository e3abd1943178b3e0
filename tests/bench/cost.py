"""What embedding a million and a billion images costs on AWS: from measured CPU time, and prices that you can edit.

    python -m tests.bench.cost [--prices conf/prices.yaml] [--figures tests/bench/figures/embed.json] [--images 1e6 1e9]

prints docs/cost.md. The figures are the JSON line of tests.bench.embed. Nothing is fetched and nothing is run.
"""

import argparse
import datetime
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
PRICES = ROOT / "conf" / "prices.yaml"
FIGURES = ROOT / "tests" / "bench" / "figures" / "embed.json"
PAGE = ROOT / "docs" / "cost.md"
COMMAND = "python -m tests.bench.cost"
IMAGES = (1e6, 1e9)


class CostError(Exception):
    """Says what is wrong with which file, a line for each fault."""


@dataclass(frozen=True)
class Instance:
    """usd_per_hour: EC2 on demand. emr_usd_per_hour: on top of it. gpu_images_per_s: None without a GPU."""

    name: str
    vcpus: float
    usd_per_hour: float
    emr_usd_per_hour: float
    vcpu_speed: float
    gpu_images_per_s: float | None
    why: str


@dataclass(frozen=True)
class Claim:
    images: float
    usd: float
    hours: float
    source: str


@dataclass(frozen=True)
class Prices:
    """conf/prices.yaml says what each is. s3 and assumptions: by their keys."""

    as_of: str
    region: str
    source: str
    instances: Mapping[str, Instance]
    cpu: str
    gpu: str
    primary: str
    s3: Mapping[str, float]
    assumptions: Mapping[str, float]
    claim: Claim


@dataclass(frozen=True)
class Figures:
    """What was measured, for one image. cpu_ms: all of the embed stage on local files. cpu_ms_without_model: of it,
    without inference. s3_cpu_ms: what reading it as an object of its own from S3 takes on top. table_bytes: of its rows
    in features and embeddings. where: the machine. preliminary: why the figures are not yet those of tests.bench.embed
    at its full sizes, None where they are."""

    cpu_ms: float
    cpu_ms_without_model: float
    s3_cpu_ms: float
    table_bytes: float
    where: str
    preliminary: str | None = None


Section = Mapping[str, Any] | None  # None: it is not there, which has been told


class _Reader:
    """Takes values out of a file and collects what is wrong with them."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[str] = []

    def fault(self, where: str, rule: str, value: object) -> None:
        self.faults.append(f"{self.file}: {where} must be {rule}, got {value!r}")

    def section(self, of: Section, key: str, where: str = "") -> Section:
        value = self._value(of, key, where)
        if isinstance(value, Mapping) or value is None:
            return value
        self.fault(where + key, "a section", value)
        return None

    def number(
        self, of: Section, key: str, where: str, low: float = 0.0, high: float = math.inf, above: bool = False
    ) -> float:
        """From low to high, both included, or above low. NaN where it is faulty."""
        value = self._value(of, key, where)
        if value is None:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fault(where + key, "a number", value)
        elif value < low or value > high or (above and value == low):
            rule = f"{low:g}..{high:g}" if high < math.inf else f"{'above' if above else 'at least'} {low:g}"
            self.fault(where + key, rule, value)
        else:
            return float(value)
        return math.nan

    def text(self, of: Section, key: str, where: str = "") -> str:
        """Empty where it is faulty."""
        value = self._value(of, key, where)
        if isinstance(value, str) and value.strip():
            return value.strip()
        if value is not None:
            self.fault(where + key, "a text", value)
        return ""

    def known(self, of: Section, allowed: Sequence[str], where: str = "") -> None:
        for key in of or {}:
            if key not in allowed:
                self.faults.append(f"{self.file}: {where}{key} is unknown; there are {', '.join(allowed)}")

    def _value(self, of: Section, key: str, where: str) -> Any:
        """None where it is missing, or its whole section, which has been told already."""
        value = None if of is None else of.get(key)
        if value is None and of is not None:
            self.faults.append(f"{self.file}: {where}{key} is missing")
        return value

    def done(self) -> None:
        """Raises CostError, where there was a fault."""
        if self.faults:
            raise CostError("\n".join(self.faults))


S3_KEYS = (
    "get_usd_per_1000",
    "put_usd_per_1000",
    "list_usd_per_1000",
    "storage_usd_per_gb_month",
    "inventory_usd_per_million",
)
# Lowest, highest, and whether it must be above the lowest.
ASSUMPTIONS: dict[str, tuple[float, float, bool]] = {
    "spot_discount": (0, 1, False),
    "utilisation": (0, 1, True),
    "start_hours": (0, math.inf, False),
    "within_hours": (0, math.inf, True),
    "image_bytes": (0, math.inf, True),
    "range_bytes": (0, math.inf, True),
    "shard_passes": (0, math.inf, False),
    "keys_per_list": (0, math.inf, True),
    "table_puts_per_1000": (0, math.inf, False),
    "table_gets_per_1000": (0, math.inf, False),
}
SECTIONS = ("as_of", "region", "source", "instances", "fleets", "s3", "s3_move", "assumptions", "claim")
INSTANCE_KEYS = ("kind", "vcpus", "usd_per_hour", "emr_usd_per_hour", "vcpu_speed", "gpu_images_per_s", "why")
FLEETS = ("cpu", "gpu", "primary")


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _instance(read: _Reader, name: str, given: Section) -> Instance:
    where = f"instances.{name}."
    read.known(given, INSTANCE_KEYS, where)
    kind = read.text(given, "kind", where)
    if kind and kind not in ("cpu", "gpu"):
        read.fault(f"{where}kind", "cpu or gpu", kind)
    return Instance(
        name,
        read.number(given, "vcpus", where, above=True),
        read.number(given, "usd_per_hour", where, above=True),
        read.number(given, "emr_usd_per_hour", where),
        read.number(given, "vcpu_speed", where, above=True),
        read.number(given, "gpu_images_per_s", where, above=True) if kind == "gpu" else None,
        read.text(given, "why", where),
    )


def load_prices(path: Path) -> Prices:
    """Raises CostError with all faults of the file, a line for each."""
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CostError(f"{_shown(path)}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise CostError(f"{_shown(path)}: no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, Mapping):
        raise CostError(f"{_shown(path)}: must be sections of prices, got {given!r}")
    read = _Reader(_shown(path))
    read.known(given, SECTIONS)
    as_of = given.get("as_of")
    if not isinstance(as_of, datetime.date):
        read.fault("as_of", "a date such as 2026-11-21", as_of)
    instances = {}
    sections = read.section(given, "instances")
    for name in sections or {}:
        instances[name] = _instance(read, name, read.section(sections, name, "instances."))
    fleets = read.section(given, "fleets")
    read.known(fleets, FLEETS, "fleets.")
    chosen = {key: read.text(fleets, key, "fleets.") for key in FLEETS}
    for key, name in chosen.items():
        if not name or sections is None:
            continue
        if name not in instances:
            read.fault(f"fleets.{key}", f"one of {', '.join(instances)}", name)
        elif key != "primary" and (instances[name].gpu_images_per_s is None) == (key == "gpu"):
            read.fault(f"fleets.{key}", f"an instance of kind {key}", name)
    s3, assumptions = read.section(given, "s3"), read.section(given, "assumptions")
    read.known(s3, S3_KEYS, "s3.")
    read.known(assumptions, tuple(ASSUMPTIONS), "assumptions.")
    claim = read.section(given, "claim")
    prices = Prices(
        str(as_of),
        read.text(given, "region"),
        read.text(given, "source"),
        instances,
        chosen["cpu"],
        chosen["gpu"],
        chosen["primary"],
        {key: read.number(s3, key, "s3.") for key in S3_KEYS},
        {
            key: read.number(assumptions, key, "assumptions.", low, high, above)
            for key, (low, high, above) in ASSUMPTIONS.items()
        },
        Claim(
            read.number(claim, "images", "claim.", above=True),
            read.number(claim, "usd", "claim.", above=True),
            read.number(claim, "hours", "claim.", above=True),
            read.text(claim, "source", "claim."),
        ),
    )
    if prices.assumptions["within_hours"] <= prices.assumptions["start_hours"]:
        read.fault("assumptions.within_hours", "more than start_hours", prices.assumptions["within_hours"])
    read.done()
    return prices


def load_figures(path: Path) -> Figures:
    """Raises CostError with all faults of the file, a line for each."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CostError(f"{_shown(path)}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CostError(f"{_shown(path)}: no JSON: {error}") from error
    if not isinstance(given, Mapping):
        raise CostError(f"{_shown(path)}: must be the line that tests.bench.embed prints")
    read = _Reader(_shown(path))
    whole = read.number(given, "cpu_ms_per_image", "", above=True)
    section = read.section(given, "worker_cpu_ms")
    files, without_model, from_s3 = (
        read.number(section, key, "worker_cpu_ms.", above=True) for key in ("files", "files_without_model", "s3_files")
    )
    section = read.section(given, "bytes_per_image")
    table_bytes = sum(read.number(section, table, "bytes_per_image.") for table in ("features", "embeddings"))
    machine = read.section(given, "machine")
    where = f"{read.number(machine, 'cores', 'machine.'):g} cores, {read.text(machine, 'cpu', 'machine.')}"
    # The whole stage has more than a worker: Spark, and writing the tables.
    rest = whole - (files - without_model)
    if rest <= 0:
        read.fault("cpu_ms_per_image", "more than the model takes in worker_cpu_ms", whole)
    read.done()
    return Figures(whole, rest, max(0.0, from_s3 - files), table_bytes, where, given.get("preliminary"))


@dataclass(frozen=True)
class Rate:
    """Images that a node embeds in a second while it works, and what holds it back."""

    images_per_s: float
    bound: str


def rate(instance: Instance, figures: Figures, utilisation: float) -> Rate:
    """A CPU node: its vCPUs by the CPU time of an image. A GPU node: the slower of its vCPUs, which fetch and decode,
    and its GPU. The images come from S3."""
    without = instance.gpu_images_per_s is not None
    ms = (figures.cpu_ms_without_model if without else figures.cpu_ms) + figures.s3_cpu_ms
    by_cores = instance.vcpus * instance.vcpu_speed * 1000 / ms
    if instance.gpu_images_per_s is not None and instance.gpu_images_per_s < by_cores:
        return Rate(instance.gpu_images_per_s * utilisation, "GPU")
    return Rate(by_cores * utilisation, "vCPUs")


@dataclass(frozen=True)
class Run:
    """nodes: without the primary. hours: from the start of the cluster. usd: of all nodes, on demand and on spot."""

    nodes: int
    hours: float
    on_demand_usd: float
    spot_usd: float


def run(images: float, instance: Instance, figures: Figures, prices: Prices) -> Run:
    """The smallest fleet that is done within the hours that are allowed."""
    given = prices.assumptions
    node_hours = images / rate(instance, figures, given["utilisation"]).images_per_s / 3600
    nodes = max(1, math.ceil(node_hours / (given["within_hours"] - given["start_hours"])))
    hours = given["start_hours"] + node_hours / nodes
    first = prices.instances[prices.primary]
    primary = hours * (first.usd_per_hour + first.emr_usd_per_hour)
    spot = instance.usd_per_hour * (1 - given["spot_discount"])
    return Run(
        nodes,
        hours,
        primary + nodes * hours * (instance.usd_per_hour + instance.emr_usd_per_hour),
        primary + nodes * hours * (spot + instance.emr_usd_per_hour),
    )


@dataclass(frozen=True)
class Requests:
    """Dollars by kind of request: reading the images, listing them, and writing and reading the tables."""

    images_usd: float
    listing_usd: float
    tables_usd: float

    @property
    def usd(self) -> float:
        return self.images_usd + self.listing_usd + self.tables_usd


def requests(images: float, prices: Prices, *, shards: bool) -> Requests:
    """shards: whether the images are in tar shards, read in ranges; listing those costs nothing worth counting."""
    s3, given = prices.s3, prices.assumptions
    gets = images * given["image_bytes"] / given["range_bytes"] * given["shard_passes"] if shards else images
    lists = 0.0 if shards else images / given["keys_per_list"]
    puts = images * given["table_puts_per_1000"] / 1000
    again = images * given["table_gets_per_1000"] / 1000
    return Requests(
        gets / 1000 * s3["get_usd_per_1000"],
        lists / 1000 * s3["list_usd_per_1000"],
        puts / 1000 * s3["put_usd_per_1000"] + again / 1000 * s3["get_usd_per_1000"],
    )


def storage_usd_per_month(images: float, figures: Figures, prices: Prices) -> float:
    """Of features and embeddings, not of the images."""
    return images * figures.table_bytes / 1e9 * prices.s3["storage_usd_per_gb_month"]


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


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _basis(instance: Instance, figures: Figures, prices: Prices) -> str:
    """How the rate of an instance was projected from what was measured."""
    bound = rate(instance, figures, prices.assumptions["utilisation"]).bound
    speed = f"{instance.vcpu_speed:g} of the measured core a vCPU (assumed)"
    if instance.gpu_images_per_s is None:
        return f"CPU time of an image (measured), {speed}"
    gpu = f"the GPU at {instance.gpu_images_per_s:,.0f} images/s (assumed, not measured)"
    if bound == "GPU":
        return gpu
    return f"CPU time without inference (measured), {speed}; {gpu} would be faster"


def _main_table(sizes: Sequence[float], figures: Figures, prices: Prices) -> str:
    rows = []
    for images in sizes:
        single = requests(images, prices, shards=False).usd
        shards = requests(images, prices, shards=True).usd
        for name in (prices.cpu, prices.gpu):
            instance = prices.instances[name]
            done = run(images, instance, figures, prices)
            for price, compute in (("on demand", done.on_demand_usd), ("spot", done.spot_usd)):
                rows.append(
                    [
                        count_text(images),
                        f"{done.nodes} × {name} ({'CPU' if instance.gpu_images_per_s is None else 'GPU'})",
                        price,
                        time_text(done.hours),
                        usd(compute),
                        usd(compute + single),
                        usd(compute + shards),
                        "projected from measured CPU time"
                        if instance.gpu_images_per_s is None
                        else "projected, GPU not measured",
                    ]
                )
    return _table(
        [
            "images",
            "fleet",
            "price",
            "time",
            "compute",
            "with S3 requests, single objects",
            "with S3 requests, tar shards",
            "basis",
        ],
        rows,
    )


def _instance_table(images: float, figures: Figures, prices: Prices) -> str:
    rows = []
    for name, instance in prices.instances.items():
        if name == prices.primary and name not in (prices.cpu, prices.gpu):
            continue
        speed = rate(instance, figures, prices.assumptions["utilisation"])
        done = run(images, instance, figures, prices)
        rows.append(
            [
                name,
                f"{speed.images_per_s:,.0f}",
                speed.bound,
                usd(done.on_demand_usd),
                usd(done.spot_usd),
                _basis(instance, figures, prices),
                instance.why,
            ]
        )
    return _table(
        [
            "instance",
            "images/s a node",
            "held back by its",
            f"compute for {count_text(images)}, on demand",
            "spot",
            "projected from",
            "why so",
        ],
        rows,
    )


def _s3_table(sizes: Sequence[float], figures: Figures, prices: Prices) -> str:
    rows = []
    for images in sizes:
        single = requests(images, prices, shards=False)
        shards = requests(images, prices, shards=True)
        inventory = images / 1e6 * prices.s3["inventory_usd_per_million"]
        rows += [
            [f"GET, {count_text(images)} single objects", usd(single.images_usd)],
            [
                f"GET, {count_text(images)} in tar shards, in ranges of up to "
                f"{prices.assumptions['range_bytes'] / 2**20:g} MB, {prices.assumptions['shard_passes']:g} times",
                usd(shards.images_usd),
            ],
            [f"LIST, {count_text(images)} single objects", usd(single.listing_usd)],
            [f"or S3 Inventory, {count_text(images)} single objects, one report", usd(inventory)],
            [f"PUT and GET of the tables, {count_text(images)}", usd(single.tables_usd)],
            [
                f"keeping features and embeddings of {count_text(images)}, a month",
                usd(storage_usd_per_month(images, figures, prices)),
            ],
        ]
    return _table(["what", "cost"], rows)


def _claim(figures: Figures, prices: Prices) -> str:
    claim = prices.claim
    lines = []
    for name in (prices.cpu, prices.gpu):
        done = run(claim.images, prices.instances[name], figures, prices)
        total = [done.on_demand_usd + requests(claim.images, prices, shards=shards).usd for shards in (False, True)]
        lines.append(
            f"- {done.nodes} × {name}: {time_text(done.hours)}, compute {usd(done.on_demand_usd)} on demand "
            f"({done.on_demand_usd / claim.usd:.2f} of the claim) and {usd(done.spot_usd)} on spot "
            f"({done.spot_usd / claim.usd:.2f}). With S3's requests, on demand, it is {usd(total[0])} from single "
            f"objects and {usd(total[1])} from tar shards."
        )
    return "\n".join(lines) + "\n"


def _facts(figures: Figures, prices: Prices) -> str:
    where = f"measured on {figures.where}"
    return _table(
        ["figure", "value", "where it comes from"],
        [
            ["CPU time of the embed stage, from local files", f"{figures.cpu_ms:.2f} ms an image", where],
            ["of it without inference", f"{figures.cpu_ms_without_model:.2f} ms an image", where],
            ["what S3 takes on top", f"{figures.s3_cpu_ms:.2f} ms an image", f"{where}; a local server, without TLS"],
            [
                "size of an image",
                f"{prices.assumptions['image_bytes'] / 1000:.0f} KB",
                "that of the measured photographs; yours decides how many fit into a read of a shard",
            ],
            ["`features` and `embeddings`", f"{figures.table_bytes:,.0f} bytes an image", "measured on disk"],
            ["speed of a vCPU", "see the next table", "assumed: no instance was measured"],
            ["speed of a GPU", "see the next table", "assumed: no GPU was measured"],
            ["utilisation of the fleet", f"{prices.assumptions['utilisation']:.0%}", "assumed"],
            [
                "spot, off the EC2 price",
                f"{prices.assumptions['spot_discount']:.0%}",
                "assumed; nothing off EMR's part",
            ],
        ],
    )


def page(sizes: Sequence[float], figures: Figures, prices: Prices) -> str:
    """docs/cost.md."""
    given, claim = prices.assumptions, prices.claim
    start = f"{given['start_hours'] * 60:.0f} minutes"
    parts = [
        "# What it costs",
        f"Made by `{COMMAND} > docs/cost.md`, word for word, from the measured CPU time of the embed stage and from\n"
        "the prices and assumptions in [conf/prices.yaml](../conf/prices.yaml): edit that file and run it again.\n"
        "**Nothing here ran on AWS: every amount is projected.**",
        f"**Preliminary:** {figures.preliminary}" if figures.preliminary else "",
        f"Prices: {prices.region}, {prices.as_of}. {prices.source.rstrip('.')}.",
        _main_table(sizes, figures, prices),
        f"- *Fleet*: the smallest that is done within {given['within_hours']:g} hours.\n"
        f"- *Compute*: EC2 and EMR's part, for the fleet and one {prices.primary} as the primary node (always on\n"
        f"  demand), from the start of the cluster ({start}, billed) to the end of the embed stage. Disks, the other\n"
        "  stages, and traffic between zones or regions are not counted.\n"
        "- *With S3 requests*: for reading and listing the images, and for the tables; details below. The images\n"
        "  are in S3 in any case, and the CPU time of reading them from there is always counted.",
        "## Measured and projected",
        _facts(figures, prices),
        _instance_table(max(sizes), figures, prices),
        "## S3",
        _s3_table(sizes, figures, prices),
        "## The known claim",
        f"{count_text(claim.images)} images in {claim.hours:g} hours for {usd(claim.usd)} of compute, S3's requests\n"
        f"not counted: {claim.source}. By the figures above:",
        _claim(figures, prices),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=COMMAND)
    parser.add_argument("--prices", type=Path, default=PRICES)
    parser.add_argument("--figures", type=Path, default=FIGURES, help="the JSON line of tests.bench.embed")
    parser.add_argument("--images", type=float, nargs="+", default=list(IMAGES))
    options = parser.parse_args(argv)
    if not all(math.isfinite(images) and images >= 1 for images in options.images):
        parser.error("--images must be at least 1")
    try:
        text = page(options.images, load_figures(options.figures), load_prices(options.prices))
    except CostError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
