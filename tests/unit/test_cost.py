"""What runs cost: the arithmetic on numbers that can be checked by hand, and what bad files are answered with."""

import copy
import dataclasses
import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from emr.command import main
from emr.costs import cost, cost_page, stage_work
from jobs.cleaning import prices
from jobs.errors import ConfigError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cost.md"
MEASURED = stage_work.Measured(
    as_of=datetime.date(2026, 1, 3),
    machine="2 cores",
    embed=stage_work.Embed(
        cpu_ms=4.0,
        without_model_ms=2.0,
        s3_ms=1.0,
        image_bytes=100_000,
        table_bytes=3000,
        by_size=((50_000, 7.0), (100_000, 8.0), (200_000, 9.0), (400_000, 10.0)),
    ),
    neighbours=stage_work.Neighbours(
        cpu_ms=0.3, numbers=1280, search_us=50.0, search_us_default=100.0, pair_recall=1.0
    ),
    cpu_ms={"catalog": 0.1, "clusters": 0.2, "labels": 0.4, "content": 0.3, "map": 0.1}
    | dict.fromkeys(("index", "issues", "rate", "albums", "report"), 0.0),
    start_cpu_s=dict.fromkeys(stage_work.STAGES, 0.0),
)


def given() -> dict[str, Any]:
    """A price file in which a vCPU of the CPU node embeds 100 images/s: 1000 ms / 5 ms, half as fast, all the time."""
    content: dict[str, Any] = {
        "as_of": datetime.date(2026, 1, 2),
        "region": "here",
        "source": "made up",
        "instances": {
            "c": {"kind": "cpu", "vcpus": 10, "usd_per_hour": 1.0, "emr_usd_per_hour": 0.25, "vcpu_speed": 0.5},
            "g": {"kind": "gpu", "vcpus": 3, "usd_per_hour": 2.0, "emr_usd_per_hour": 0.5, "vcpu_speed": 1.0},
            "p": {"kind": "cpu", "vcpus": 1, "usd_per_hour": 0.08, "emr_usd_per_hour": 0.02, "vcpu_speed": 1},
        },
        "fleets": {"cpu": "c", "gpu": "g", "primary": "p"},
        "serverless": {
            "vcpus": 10, "memory_gb": 40, "usd_per_vcpu_hour": 0.05, "usd_per_gb_hour": 0.01, "free_disk_gb": 20,
            "usd_per_disk_gb_hour": 0.001, "vcpu_speed": 0.5, "why": "it is made up",
        },
        "disk_usd_per_gb_month": 0.0,
        "s3": {
            "get_usd_per_1000": 0.0004, "put_usd_per_1000": 0.005, "list_usd_per_1000": 0.005,
            "storage_usd_per_gb_month": 0.02, "inventory_usd_per_million": 0.0025,
        },
        "assumptions": {
            "spot_discount": 0.6, "utilisation": 1.0, "start_hours": 0.0, "within_hours": 10, "disk_gb": 20,
            "disk_slack": 1.0, "range_bytes": 8_000_000, "shard_passes": 2, "keys_per_list": 1000,
            "table_puts_per_1000": 2, "table_gets_per_1000": 4,
        },
        "s3_move": {
            "batch_usd_per_job": 0.25, "batch_usd_per_million": 1, "tag_usd_per_1000": 0.005,
            "tags_usd_per_10000_month": 0.01, "classes": {},
        },
        "claim": {"images": 1e9, "usd": 200, "hours": 24, "source": "somebody"},
    }  # fmt: skip
    content["instances"]["g"]["gpu_images_per_s"] = 900
    for instance in content["instances"].values():
        instance["why"] = "it is made up"
    return content


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "prices.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def loaded(folder: Path, **assumptions: float) -> prices.Prices:
    content = given()
    content["assumptions"] |= assumptions
    return prices.load(write(folder, content))


@pytest.fixture
def made_up(tmp_path: Path) -> prices.Prices:
    return loaded(tmp_path)


def embed(kind: str, images: float, of: prices.Prices, **more: Any) -> cost.Estimate:
    more = {"spot": False, "measured": MEASURED, **more}
    return cost.estimate(kind, images, 100_000, ("embed",), prices=of, **more)


def test_the_page_is_the_output_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Would catch docs/cost.md edited by hand, or prices or figures changed without it."""
    assert main(["cost"]) == 0
    assert PAGE.read_text(encoding="utf-8") == capsys.readouterr().out


def test_a_cpu_cluster(made_up: prices.Prices) -> None:
    """Would catch a wrong fleet, hour or dollar, or S3's CPU time left out: 36 million images take one node 10 hours, a
    little more takes two."""
    done = embed("cpu", 36e6, made_up)
    assert done.fleet.text == "1 × c"
    assert done.hours == pytest.approx(10.0)
    assert done.usd == pytest.approx(10 * (1.0 + 0.25) + 10 * 0.2)
    assert embed("cpu", 36e6, made_up, spot=True).usd == pytest.approx(10 * (0.4 + 0.25) + 10 * 0.2)
    more = embed("cpu", 54e6, made_up)
    assert more.fleet.nodes == 2
    assert more.hours == pytest.approx(7.5)


def test_utilisation(tmp_path: Path) -> None:
    """Would catch a fleet whose cores work all the time."""
    assert embed("cpu", 18e6, loaded(tmp_path, utilisation=0.5)).hours == pytest.approx(10.0)


def test_a_gpu_node_is_as_fast_as_the_slower_of_its_parts(made_up: prices.Prices) -> None:
    """Would catch a GPU that is fed faster than its vCPUs decode, or inference counted on the vCPUs."""
    assert embed("gpu", 9e6, made_up).hours == pytest.approx(9e6 / 900 / 3600)  # 3 vCPUs at 3 ms: 1,000
    slow = dataclasses.replace(MEASURED, embed=dataclasses.replace(MEASURED.embed, cpu_ms=9.0, without_model_ms=5.0))
    assert embed("gpu", 9e6, made_up, measured=slow).hours == pytest.approx(9e6 / 500 / 3600)


def test_other_stages_of_a_gpu_cluster_run_on_its_vcpus(made_up: prices.Prices) -> None:
    """Would catch stages that a GPU speeds up without having one."""
    done = cost.estimate("gpu", 9e6, 100_000, ("clusters",), prices=made_up, measured=MEASURED)
    assert done.hours == pytest.approx(9e6 * 0.2e-3 / 3 / 3600)


def test_serverless(made_up: prices.Prices) -> None:
    """Would catch a driver that is not paid, memory left out, or a discount that Serverless does not have."""
    done = embed("serverless", 36e6, made_up, spot=True)
    assert done.hours == pytest.approx(10.0)
    assert done.usd == pytest.approx(2 * 10 * (10 * 0.05 + 40 * 0.01))


def test_the_start_of_the_cluster_is_billed(tmp_path: Path) -> None:
    """Would catch a start that costs nothing, or one that is not taken from the hours allowed."""
    done = embed("cpu", 36e6, loaded(tmp_path, start_hours=1.0))
    assert done.fleet.nodes == 2
    assert done.hours == pytest.approx(6.0)
    assert done.usd == pytest.approx(2 * 6 * 1.25 + 6 * 0.2)
    assert [part.stage for part in done.stages] == ["start", "embed"]
    assert sum(part.usd for part in done.stages) == pytest.approx(done.usd)


def test_the_start_of_each_stage_is_counted(made_up: prices.Prices) -> None:
    """Would catch small lakes that cost nothing: most of what they take is starting the stages, on the driver."""
    slow = dataclasses.replace(MEASURED, start_cpu_s={**MEASURED.start_cpu_s, "embed": 7200.0})
    assert embed("cpu", 1, made_up, measured=slow).hours == pytest.approx(1.0, abs=1e-6)  # two cores of the primary


def test_the_shuffle_needs_disks(tmp_path: Path) -> None:
    """Would catch 17 TB of shuffle that cost nothing, or nodes that cannot hold their part."""
    content = given()
    content["disk_usd_per_gb_month"] = 730.0  # a dollar a GB and hour
    dear = prices.load(write(tmp_path, content))
    shuffle_gb = stage_work.search_plan(10**9).shuffle_bytes / 1e9
    done = cost.estimate("cpu", 1e9, 100_000, ("neighbours",), spot=False, prices=dear, measured=MEASURED)
    assert done.fleet.disk_gb * done.fleet.nodes == pytest.approx(shuffle_gb)
    assert done.usd_per_hour == pytest.approx(done.fleet.nodes * 1.25 + shuffle_gb + 0.2)
    assert embed("cpu", 1e9, dear).fleet.disk_gb == 20


def test_larger_images_take_more(made_up: prices.Prices) -> None:
    """Would catch --bytes-per-image that is not used, or a size that was not measured taken from the wrong two."""
    sizes = {25_000: 3.5, 75_000: 4.5, 100_000: 5.0, 150_000: 5.5, 200_000: 6.0, 400_000: 7.0, 600_000: 8.0}
    for size, ms in sizes.items():
        assert stage_work.cpu_ms("embed", 1, size, MEASURED) == pytest.approx(ms), size
    assert stage_work.cpu_ms("embed", 1, 200_000, MEASURED, on_gpu=True) == pytest.approx(4.0)
    free = dataclasses.replace(MEASURED.embed, by_size=((1, 0.0), (100_000, 100.0)))
    assert free.ms(1, with_model=True) == pytest.approx(0.5)


def test_neighbours() -> None:
    """Would catch the cells of a lake left out: the search in each is what grows."""
    probes = stage_work.search_plan(10**9).probes
    assert stage_work.cpu_ms("neighbours", 10**9, 1, MEASURED) == pytest.approx(0.2 + probes * 0.1)


def test_requests(made_up: prices.Prices) -> None:
    """Would catch a factor of a thousand between single objects and shards, and a billion GETs that are not $400."""
    single = cost.requests(1e9, 100_000, made_up, shards=False)
    assert single.images_usd == pytest.approx(400)
    assert single.listing_usd == pytest.approx(5)  # a million LISTs
    assert single.tables_usd == pytest.approx(2e6 / 1000 * 0.005 + 4e6 / 1000 * 0.0004)
    shards = cost.requests(1e9, 100_000, made_up, shards=True)
    assert shards.images_usd == pytest.approx(2 * 400 / 80)  # 80 images in a range, read twice
    assert shards.listing_usd == 0
    assert single.usd == pytest.approx(single.images_usd + single.listing_usd + single.tables_usd)
    assert cost.storage_usd_per_month(1e9, MEASURED, made_up) == pytest.approx(3000 * 0.02)


def test_the_table(made_up: prices.Prices) -> None:
    """Would catch a column under the wrong head, on demand taken for spot, or a sum of other rows."""
    lines = cost_page.stage_table(36e6, 100_000, made_up, MEASURED).splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0] for row in rows] == ["start", *stage_work.STAGES, "in all"]
    normal, cheap = (
        cost.estimate("cpu", 36e6, 100_000, spot=spot, prices=made_up, measured=MEASURED) for spot in (False, True)
    )
    assert head[:4] == ["stage", f"cpu: {normal.fleet.text}", "on demand", "spot"]
    assert rows[2][1:4] == [
        cost_page.time_text(normal.stages[2].hours),
        cost_page.usd(normal.stages[2].usd),
        cost_page.usd(cheap.stages[2].usd),
    ]
    assert rows[-1][2] == cost_page.usd(normal.usd)
    assert head[-2].startswith("serverless: ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "$0"),
        (1e-9, "below $0.00001"),
        (0.0105, "$0.0105"),
        (0.99999, "$1.00"),
        (7.5, "$7.50"),
        (81.66, "$81.7"),
        (999.9, "$1,000"),
    ],
)
def test_dollars(value: float, text: str) -> None:
    """Would catch cents that pretend to be known, and small amounts that vanish."""
    assert cost_page.usd(value) == text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--images", "0"], "the number of images must be 1..1e+11, got 0"),
        (["--images", "nan"], "the number of images must be 1..1e+11, got nan"),
        (["--bytes-per-image", "-1"], "the bytes of an image must be 1..1e9, got -1"),
    ],
)
def test_bad_numbers(argv: list[str], message: str) -> None:
    """Would catch a page of nonsense."""
    with pytest.raises(ConfigError, match=message.replace("+", r"\+")):
        main(["cost", *argv])


def test_unknown_kinds_and_stages() -> None:
    """Would catch a KeyError of a submission that misspells one."""
    with pytest.raises(ConfigError, match="unknown kind of cluster 'tpu', there are cpu, gpu, serverless"):
        cost.estimate("tpu", 1, 1)
    with pytest.raises(ConfigError, match="unknown stage 'bake'"):
        cost.estimate("cpu", 1, 1, ("embed", "bake"))


MISSING = object()


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("s3", "get_usd_per_1000"), MISSING, "s3.get_usd_per_1000 is missing"),
        (("s3",), MISSING, "s3 is missing"),
        (("serverless", "memory_gb"), MISSING, "serverless.memory_gb is missing"),
        (("instances", "c", "usd_per_hour"), -1, "instances.c.usd_per_hour must be above 0, got -1"),
        (("instances", "c", "emr_usd_per_hour"), "free", "instances.c.emr_usd_per_hour must be a number, got 'free'"),
        (("instances", "c", "vcpus"), float("nan"), "instances.c.vcpus must be a number, got nan"),
        (("instances", "c", "kind"), "tpu", "instances.c.kind must be cpu or gpu, got 'tpu'"),
        (("instances", "g", "gpu_images_per_s"), MISSING, "instances.g.gpu_images_per_s is missing"),
        (("fleets", "cpu"), "c9.huge", "fleets.cpu must be one of c, g, p, got 'c9.huge'"),
        (("fleets", "gpu"), "c", "fleets.gpu must be an instance of kind gpu, got 'c'"),
        (("fleets", "cpu"), "g", "fleets.cpu must be an instance of kind cpu, got 'g'"),
        (("assumptions", "utilisation"), 1.5, "assumptions.utilisation must be 0..1, got 1.5"),
        (("assumptions", "within_hours"), True, "assumptions.within_hours must be a number, got True"),
        (("assumptions", "discount"), 0.5, "unknown key assumptions.discount (there are spot_discount, "),
        (("as_of",), "today", "as_of must be a date such as 2026-11-21, got 'today'"),
        (("instances",), [1], "instances must be a section, got [1]"),
    ],
)
def test_a_bad_price_file(tmp_path: Path, keys: tuple[str, ...], value: object, message: str) -> None:
    """Would catch a traceback, a fault that is not named by its place, or a page made from a faulty file."""
    content = copy.deepcopy(given())
    section = content
    for key in keys[:-1]:
        section = section[key]
    if value is MISSING:
        del section[keys[-1]]
    else:
        section[keys[-1]] = value
    path = write(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        main(["cost", "--prices", str(path)])
    assert str(caught.value).startswith(f"{path}: {message}")


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    """Would catch faults that come one a run."""
    content = given()
    content["s3"]["get_usd_per_1000"] = -1
    del content["region"]
    with pytest.raises(ConfigError) as caught:
        prices.load(write(tmp_path, content))
    assert str(caught.value).count("prices.yaml: ") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("a: [", "is not YAML"),
        ("[]", "must be sections of figures, got []"),
        ("as_of: 2026-01-01\nmachine: m", "embed is missing"),
    ],
)
def test_bad_figures(tmp_path: Path, text: str | None, message: str) -> None:
    """Would catch a page made from figures that are not there, or a traceback of many lines."""
    path = tmp_path / "measured.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        main(["cost", "--measured", str(path)])
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_inference_is_a_part_of_embedding(tmp_path: Path) -> None:
    """Would catch figures put into each other's place: a GPU would then slow a node down."""
    content = yaml.safe_load((PAGE.parents[1] / "conf" / "measured.yaml").read_text(encoding="utf-8"))
    content["embed"]["without_model_ms"] = content["embed"]["cpu_ms"] + 1
    path = tmp_path / "measured.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"embed\.without_model_ms must be at most"):
        stage_work.load(path)
