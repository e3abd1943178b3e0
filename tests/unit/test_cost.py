"""The cost page: its arithmetic on numbers that can be checked by hand, and what bad files are answered with."""

import copy
import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bench import cost

FIGURES = cost.Figures(
    cpu_ms=4.0,
    cpu_ms_without_model=2.0,
    s3_cpu_ms=1.0,
    table_bytes=3000,
    where="2 cores",
)
LINE = {
    "machine": {"cores": 2, "cpu": "a CPU"},
    "cpu_ms_per_image": 4.0,
    "worker_cpu_ms": {"files": 3.0, "files_without_model": 1.0, "s3_files": 4.0, "s3_tar": 3.5},
    "bytes_per_image": {"features": 1000, "embeddings": 2000},
    "more": "is allowed",
}


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
        "s3": {
            "get_usd_per_1000": 0.0004, "put_usd_per_1000": 0.005, "list_usd_per_1000": 0.005,
            "storage_usd_per_gb_month": 0.02, "inventory_usd_per_million": 0.0025,
        },
        "assumptions": {
            "spot_discount": 0.6, "utilisation": 1.0, "start_hours": 0.0, "within_hours": 10, "image_bytes": 100_000,
            "range_bytes": 8_000_000, "shard_passes": 2, "keys_per_list": 1000,
            "table_puts_per_1000": 2, "table_gets_per_1000": 4,
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


@pytest.fixture
def prices(tmp_path: Path) -> cost.Prices:
    return cost.load_prices(write(tmp_path, given()))


def test_the_page_is_the_output_of_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    """Would catch docs/cost.md edited by hand, or prices or figures changed without it."""
    assert cost.main([]) == 0
    assert cost.PAGE.read_text(encoding="utf-8") == capsys.readouterr().out


def test_a_cpu_node(prices: cost.Prices) -> None:
    """Would catch S3's CPU time, the speed of a vCPU or the utilisation being left out."""
    node = prices.instances["c"]
    assert cost.rate(node, FIGURES, 1.0) == cost.Rate(1000.0, "vCPUs")
    assert cost.rate(node, FIGURES, 0.8) == cost.Rate(800.0, "vCPUs")


def test_a_gpu_node_is_as_fast_as_the_slower_of_its_parts(prices: cost.Prices) -> None:
    """Would catch a GPU that is fed faster than its vCPUs decode, or inference counted on the vCPUs."""
    node = prices.instances["g"]
    assert cost.rate(node, FIGURES, 1.0) == cost.Rate(900.0, "GPU")  # 3 vCPUs at 3 ms: 1,000
    slow = cost.Figures(4.0, 5.0, 1.0, 3000, "2 cores")
    assert cost.rate(node, slow, 0.5) == cost.Rate(250.0, "vCPUs")


def test_a_run(prices: cost.Prices) -> None:
    """Would catch a wrong fleet, hour or dollar: 36 million images take one node 10 hours, a little more takes two."""
    node = prices.instances["c"]
    done = cost.run(36e6, node, FIGURES, prices)
    assert done.nodes == 1
    assert done.hours == pytest.approx(10.0)
    assert done.on_demand_usd == pytest.approx(10 * (1.0 + 0.25) + 10 * 0.1)
    assert done.spot_usd == pytest.approx(10 * (0.4 + 0.25) + 10 * 0.1)
    more = cost.run(54e6, node, FIGURES, prices)
    assert more.nodes == 2
    assert more.hours == pytest.approx(7.5)


def test_the_start_of_the_cluster_is_billed(tmp_path: Path) -> None:
    """Would catch a start that costs nothing, or one that is not taken from the hours allowed."""
    content = given()
    content["assumptions"]["start_hours"] = 1.0
    prices = cost.load_prices(write(tmp_path, content))
    done = cost.run(36e6, prices.instances["c"], FIGURES, prices)
    assert done.nodes == 2
    assert done.hours == pytest.approx(6.0)
    assert done.on_demand_usd == pytest.approx(2 * 6 * 1.25 + 6 * 0.1)


def test_requests(prices: cost.Prices) -> None:
    """Would catch a factor of a thousand between single objects and shards, and a billion GETs that are not $400."""
    single = cost.requests(1e9, prices, shards=False)
    assert single.images_usd == pytest.approx(400)
    assert single.listing_usd == pytest.approx(5)  # a million LISTs
    assert single.tables_usd == pytest.approx(2e6 / 1000 * 0.005 + 4e6 / 1000 * 0.0004)
    shards = cost.requests(1e9, prices, shards=True)
    assert shards.images_usd == pytest.approx(2 * 400 / 80)  # 80 images in a range, read twice
    assert shards.listing_usd == 0
    assert single.usd == pytest.approx(single.images_usd + single.listing_usd + single.tables_usd)
    assert cost.storage_usd_per_month(1e9, FIGURES, prices) == pytest.approx(3000 * 0.02)


def test_the_table(prices: cost.Prices) -> None:
    """Would catch a column under the wrong head, on demand taken for spot, and a projection that is not called one."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in cost.page([36e6], FIGURES, prices).splitlines()
        if line.startswith("| 36 million |")
    ]
    tables = 36e3 * (2 * 0.005 + 4 * 0.0004) / 1000
    single = 13.5 + 36 * 0.4 + 36 * 0.005 + tables
    shards = 13.5 + 36 * 0.4 / 40 + tables
    assert rows[0] == [
        "36 million", "1 × c (CPU)", "on demand", "10.0 h", "$13.5", f"${single:.1f}", f"${shards:.1f}",
        "projected from measured CPU time",
    ]  # fmt: skip
    assert rows[1][2:5] == ["spot", "10.0 h", "$7.50"]
    assert [row[1] for row in rows[2:]] == ["2 × g (GPU)"] * 2
    assert {row[-1] for row in rows[2:]} == {"projected, GPU not measured"}


def test_preliminary_figures_are_called_so(tmp_path: Path, prices: cost.Prices) -> None:
    """Would catch a page that passes preliminary figures off as measured ones, or the other way round."""
    path = tmp_path / "figures.json"
    path.write_text(json.dumps(LINE), encoding="utf-8")
    assert "Preliminary" not in cost.page([1e6], cost.load_figures(path), prices)
    path.write_text(json.dumps({**LINE, "preliminary": "a guess"}), encoding="utf-8")
    assert "**Preliminary:** a guess" in cost.page([1e6], cost.load_figures(path), prices)


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
    assert cost.usd(value) == text


MISSING = object()


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("s3", "get_usd_per_1000"), MISSING, "s3.get_usd_per_1000 is missing"),
        (("s3",), MISSING, "s3 is missing"),
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
        (("assumptions", "discount"), 0.5, "assumptions.discount is unknown; there are spot_discount, "),
        (("as_of",), "today", "as_of must be a date such as 2026-11-21, got 'today'"),
        (("instances",), [1], "instances must be a section, got [1]"),
    ],
)
def test_a_bad_price_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: tuple[str, ...], value: object, message: str
) -> None:
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
    assert cost.main(["--prices", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{path}: {message}")
    assert len(err.splitlines()) == 1


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    """Would catch faults that come one a run."""
    content = given()
    content["s3"]["get_usd_per_1000"] = -1
    del content["region"]
    with pytest.raises(cost.CostError) as caught:
        cost.load_prices(write(tmp_path, content))
    assert len(str(caught.value).splitlines()) == 2


def test_figures(tmp_path: Path) -> None:
    """Would catch a key of the other script taken for another, or Spark's share of the CPU time lost with inference."""
    path = tmp_path / "figures.json"
    path.write_text(json.dumps(LINE), encoding="utf-8")
    assert cost.load_figures(path) == dataclasses.replace(FIGURES, where="2 cores, a CPU")
    faster = {"files": 3.0, "files_without_model": 1.0, "s3_files": 2.9}
    path.write_text(json.dumps({**LINE, "worker_cpu_ms": faster}), encoding="utf-8")
    assert cost.load_figures(path).s3_cpu_ms == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps({**LINE, "cpu_ms_per_image": 2.0}), "cpu_ms_per_image must be more than the model takes"),
        (
            json.dumps({**LINE, "worker_cpu_ms": {"files": 3.0, "files_without_model": 1.0}}),
            "worker_cpu_ms.s3_files is",
        ),
        (None, "cannot be read: No such file or directory"),
        ("{", "no JSON"),
        ("[]", "must be the line that tests.bench.embed prints"),
        (json.dumps({**LINE, "cpu_ms_per_image": "4"}), "cpu_ms_per_image must be a number, got '4'"),
        (json.dumps({**LINE, "bytes_per_image": {"features": 1}}), "bytes_per_image.embeddings is missing"),
    ],
)
def test_bad_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str) -> None:
    """Would catch a page made from figures that are not there, or a traceback."""
    path = tmp_path / "figures.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert cost.main(["--figures", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith(f"{path}: {message}")


def test_a_price_file_that_is_no_yaml(tmp_path: Path) -> None:
    """Would catch a traceback of the YAML library, of many lines."""
    path = tmp_path / "prices.yaml"
    path.write_text("a: [", encoding="utf-8")
    with pytest.raises(cost.CostError) as caught:
        cost.load_prices(path)
    assert len(str(caught.value).splitlines()) == 1
