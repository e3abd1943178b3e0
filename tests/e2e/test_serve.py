"""The app in a real browser: what is shown, asked and decided, by mouse and keys, light and dark, wide and narrow."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2 as httpx
import pyarrow as pa
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from deltalake import DeltaTable, write_deltalake
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route, expect, sync_playwright
from pyspark.sql import SparkSession

from tests.e2e import lakes
from tests.e2e.conftest import Labelled

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on PATH")
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
TABS = ("Gallery", "Map", "Copies", "Labels", "Progress", "Runs")


@dataclass(frozen=True)
class Served:
    """A lake in a server. address: with the token. lake: the one that it serves."""

    address: str
    lake: Path

    @property
    def base(self) -> str:
        return self.address.partition("/?")[0]

    def ask(self, path: str) -> Any:
        token = parse_qs(urlsplit(self.address).query)["token"][0]
        answer = httpx.get(self.base + path, headers={"authorization": f"Bearer {token}"}, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def until(self, path: str, holds: Callable[[Any], bool], seconds: float = 20) -> None:
        """Asks until an answer is as it must be: a page shows a decision before it is committed."""
        end = time.monotonic() + seconds
        while not holds(told := self.ask(path)):
            assert time.monotonic() < end, told
            time.sleep(0.1)


@contextmanager
def served(lake: Path, cache: Path) -> Iterator[Served]:
    process = subprocess.Popen(
        [sys.executable, "-m", "imagesieve", "serve", "--lake", str(lake), "--no-browser", "--port", "0",
         "--user", "anna"],
        env=lakes.clean_environment(IMAGESIEVE_CACHE=str(cache)), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        found = Served(next(line.strip() for line in process.stdout if line.startswith("http")), lake)
        for _ in range(600):
            try:
                facts = found.ask("/api/lake")
                if facts["ready"] and facts["search"]["like"]:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        else:
            raise AssertionError("the app is not ready")
        yield found
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def app(labelled: Labelled, tmp_path: Path) -> Iterator[Served]:
    """A copy of the labelled lake, as a person sees it first."""
    lake = tmp_path / "lake"
    shutil.copytree(labelled.lake, lake)
    with served(lake, tmp_path / "cache") as found:
        yield found


@contextmanager
def page_of(browser: Browser, app: Served, path: str = "", allowed: str = "404", **settings: Any) -> Iterator[Page]:
    """A page on which nothing goes wrong, and which asks nobody else. allowed: an error that may be told: 404 is of
    images that cannot be read."""
    context = browser.new_context(viewport=settings.pop("viewport", WIDE), **settings)
    page = context.new_page()
    page.set_default_timeout(20_000)
    wrong: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type == "error" and "404" not in message.text and allowed not in message.text:
            wrong.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith((app.base, "blob:", "data:")):
            wrong.append(f"asked {request.url}")

    page.on("console", said)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", asked)
    page.goto(app.address + path)
    yield page
    context.close()
    assert not wrong


def tiles(page: Page) -> Any:
    """The pictures that are there; the cell that says that they are looked for is none."""
    return page.get_by_role("grid", name="Pictures").locator("[data-index]:not([aria-busy])")


def assert_accessible(page: Page, what: str) -> None:
    """Nothing serious by axe-core, and nothing that scrolls sideways."""
    found = Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert not serious, (what, [(each["id"], [n["html"][:200] for n in each["nodes"][:2]]) for each in serious])
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), what


def another_run(lake: Path) -> tuple[int, int]:
    """Adds a run that finds one picture to be dark and one near-duplicate to be none. Returns both images."""
    issues = DeltaTable(str(lake / "issues")).to_pyarrow_table()
    rows = issues.to_pylist()
    gone = next(row for row in rows if row["issue"] == "near_duplicate")
    dark = {row["image_id"] for row in rows if row["issue"] == "dark"}
    new = next(row for row in rows if row["image_id"] not in {*dark, gone["image_id"]})
    rows = [row for row in rows if row is not gone] + [{**new, "issue": "dark", "suggestion": "review"}]
    write_deltalake(str(lake / "issues"), pa.Table.from_pylist(rows, schema=issues.schema), mode="overwrite")
    runs = DeltaTable(str(lake / "runs")).to_pyarrow_table()
    last = next(row for row in runs.to_pylist() if row["job"] == "issues")
    now = datetime.datetime.now(datetime.UTC)
    again = {**last, "run_id": now.strftime("%Y%m%dT%H%M%SZ-0a1b2c3d"), "started_at": now, "ended_at": now}
    write_deltalake(str(lake / "runs"), pa.Table.from_pylist([again], schema=runs.schema), mode="append")
    return new["image_id"], gone["image_id"]


def test_filter_reload_and_back(app: Served, browser: Browser) -> None:
    """A filter that shows others, a page that a reload changes, an address that holds the token, and a way back that
    leads nowhere."""
    expected = app.ask("/api/rows?issue=near_duplicate")["total"]
    everything = app.ask("/api/rows")["total"]
    assert 0 < expected < everything
    with page_of(browser, app) as page:
        expect(page.get_by_role("status").filter(has_text=f"{everything} pictures")).to_be_visible()
        assert "token" not in page.url
        page.get_by_role("group", name="issue").get_by_text("Near duplicates").click()
        expect(tiles(page)).to_have_count(expected)
        assert "issue=near_duplicate" in page.url
        page.reload()
        expect(tiles(page)).to_have_count(expected)
        page.go_back()
        expect(page.get_by_role("status").filter(has_text=f"{everything} pictures")).to_be_visible()
        page.get_by_role("searchbox").focus()


def test_decide_and_undo_by_keys_and_clean_obeys(
    app: Served, browser: Browser, spark: SparkSession, tmp_path: Path
) -> None:
    """A key that decides another picture, an undo that does not, and a clean set that ignores what was decided."""
    first = app.ask("/api/rows?issue=near_duplicate")["rows"][0]
    with page_of(browser, app, "&issue=near_duplicate") as page:
        tiles(page).first.focus()
        page.keyboard.press("k")
        expect(page.get_by_role("button", name="Undo")).to_be_visible()
        assert app.ask(f"/api/image/{first['id']}")["decision"] == "keep"
        page.keyboard.press("z")
        app.until(f"/api/image/{first['id']}", lambda told: told["decision"] is None)
        tiles(page).first.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        assert "open=" in page.url
        page.keyboard.press("k")
        app.until(f"/api/image/{first['id']}", lambda told: told["decision"] == "keep")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
    history = app.ask(f"/api/image/{first['id']}")["history"]
    assert [(each["decision"], each["by"], each["undone"]) for each in history] == [
        ("keep", "anna", True), ("keep", "anna", False),
    ]  # fmt: skip
    lakes.ran(spark, "clean", "--lake", app.lake, "--out", tmp_path / "clean.csv")
    kept, removed = (
        [line.split(",")[0].strip('"') for line in (tmp_path / name).read_text(encoding="utf-8").splitlines()]
        for name in ("clean.csv", "clean.removed.csv")
    )
    assert first["uri"] in kept
    assert first["uri"] not in removed


def test_all_that_the_filter_holds(app: Served, browser: Browser) -> None:
    """An action for all that decides only what is on the screen, or without asking."""
    expected = app.ask("/api/rows?issue=near_duplicate")["total"]
    with page_of(browser, app, "&issue=near_duplicate") as page:
        tiles(page).first.focus()
        page.keyboard.press("Control+a")
        page.keyboard.press("s")
        asked = page.get_by_role("dialog")
        expect(asked).to_contain_text(str(expected))
        asked.get_by_role("button").filter(has_text="Skip").or_(asked.get_by_role("button", name="Yes")).first.click()
        app.until("/api/rows?decision=skip", lambda told: told["total"] > 0)
    assert app.ask("/api/rows?decision=skip")["total"] == expected


def test_search_by_words_and_by_picture(app: Served, browser: Browser, labelled: Labelled) -> None:
    """A search that finds nothing, or something else than what was asked for first."""
    first = app.ask("/api/rows?limit=50")["rows"]
    one = next(row for row in first if row["readable"] and not row["cluster"])
    with page_of(browser, app) as page:
        expect(tiles(page).first).to_be_visible()
        page.get_by_label("Picture to search with").set_input_files(one["uri"])
        page.wait_for_url("**picture=**")
        expect(page.locator(".recall")).to_have_text(re.compile(r"finds \d+(\.\d)? % of the ten nearest"))
        expect(tiles(page).first).to_contain_text(one["uri"].rsplit("/", 1)[1])


def pointed(page: Page, area: Any) -> bool:
    """Moves the pointer over an area, line by line, until a point is under it."""
    for top in range(10, int(area["height"]), 12):
        page.mouse.move(area["x"] + 5, area["y"] + top)
        for left in range(15, int(area["width"]) - 300, 60):
            page.mouse.move(area["x"] + left, area["y"] + top, steps=6)
            if page.locator(".card b").count():
                return True
    return False


def test_a_lasso_is_a_filter(app: Served, browser: Browser) -> None:
    """A lasso that holds other pictures than those that lie in it, that the address loses, or whose decision goes
    further; a point that opens another picture; keys that do nothing."""
    everything = app.ask("/api/lake")["mapped"]
    with page_of(browser, app, "&page=map") as page:
        canvas = page.get_by_role("img", name=re.compile("^Map of"))
        expect(page.get_by_role("status").filter(has_text=f"{everything} pictures")).to_be_visible()
        area = canvas.bounding_box()
        assert area is not None
        left, top = area["x"] + 5, area["y"] + 5
        half = area["y"] + area["height"] / 2
        page.keyboard.down("Shift")
        page.mouse.move(left, top)
        page.mouse.down()
        for x, y in ((area["x"] + area["width"] - 5, top), (area["x"] + area["width"] - 5, half), (left, half)):
            page.mouse.move(x, y, steps=8)
        page.mouse.up()
        page.keyboard.up("Shift")
        page.wait_for_url("**lasso=**")
        query = parse_qs(urlsplit(page.url).query)
        assert query["page"] == ["map"]
        lasso = query["lasso"][0]
        held = app.ask(f"/api/rows?lasso={lasso}&limit=500")
        assert 0 < held["total"] < everything
        expect(page.get_by_role("region", name="Lasso")).to_contain_text(f"{held['total']} picture")
        page.keyboard.press("s")
        page.get_by_role("dialog").get_by_role("button", name="Skip").click()
        app.until("/api/rows?decision=skip", lambda told: told["total"] > 0)
        skipped = app.ask("/api/rows?decision=skip&limit=500")["rows"]
        assert {row["id"] for row in skipped} == {row["id"] for row in held["rows"]}
        page.get_by_role("button", name="In the gallery").click()
        expect(tiles(page).first).to_be_visible()
        assert parse_qs(urlsplit(page.url).query)["lasso"] == [lasso]
        page.go_back()
        expect(page.get_by_role("region", name="Lasso")).to_be_visible()
        expect(canvas).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("region", name="Lasso")).to_have_count(0)
        page.keyboard.press("+")
        page.keyboard.press("v")
        page.wait_for_url("**lasso=**")
        page.keyboard.press("Escape")
        page.keyboard.press("0")
        page.get_by_label("Colour by").select_option("issue")
        expect(page.get_by_role("region", name="Colours: issue")).to_contain_text("none")
        page.wait_for_timeout(300)
        assert pointed(page, area), "no point is where the pointer goes"
        name = page.locator(".card b").filter(has_not_text="…").text_content()
        page.mouse.down()
        page.mouse.up()
        expect(page.get_by_role("dialog")).to_be_visible()
        opened = app.ask(f"/api/image/{parse_qs(urlsplit(page.url).query)['open'][0]}")
        assert opened["name"].endswith(str(name))


def drawn(page: Page) -> list[tuple[int, int, int]]:
    """The colours of the points on the map that are opaque, each once."""
    told: list[list[int]] = page.evaluate(
        """() => {
          const own = document.querySelector(".surface canvas");
          const copy = Object.assign(document.createElement("canvas"), { width: own.width, height: own.height });
          const context = copy.getContext("2d");
          context.drawImage(own, 0, 0);
          const bytes = context.getImageData(0, 0, copy.width, copy.height).data;
          const found = new Map();
          for (let i = 0; i < bytes.length; i += 4)
            if (bytes[i + 3] > 200) found.set(bytes.slice(i, i + 3).join(), [...bytes.slice(i, i + 3)]);
          return [...found.values()];
        }"""
    )
    return [(r, g, b) for r, g, b in told]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_map_shows_scores(app: Served, browser: Browser, scheme: Any, tmp_path: Path) -> None:
    """A score that all points show in one colour, a scale whose colours are not those of the map, ends that are others
    than the scores have; a choice that is lost, one of a score that the lake does not have; grey where there is a
    score; a fault by axe-core."""
    kept = Path(os.environ.get("IMAGESIEVE_SCREENSHOTS") or tmp_path)
    facts = app.ask("/api/lake")
    rows = app.ask("/api/rows?limit=500")["rows"]
    blur = [app.ask(f"/api/image/{row['id']}")["scores"]["blur_score"] for row in rows if row["readable"]]
    with page_of(browser, app, "&page=map", color_scheme=scheme, bypass_csp=True) as page:
        choice = page.get_by_label("Colour by")
        expect(choice.locator("optgroup[label=Scores] option")).to_have_count(len(facts["scores"]))
        assert choice.locator("optgroup[label=Ratings]").count() == 0
        choice.select_option("score:blur_score")
        scale = page.get_by_role("region", name="Colours:")
        expect(scale.locator(".bars span")).to_have_count(20)
        low, middle, high = (float(each) for each in scale.locator(".ends span").all_text_contents())
        assert low < middle < high
        assert min(blur) - 0.01 <= low
        assert high <= max(blur) + 0.01
        page.wait_for_timeout(500)
        points = drawn(page)
        colourful = [one for one in points if max(one) - min(one) > 40]
        assert len({tuple(part // 32 for part in one) for one in colourful}) >= 4, points
        shown = scale.get_by_role("img").get_attribute("aria-label") or ""
        counts = [int(n.replace(",", "")) for n in shown.partition(": ")[2].removesuffix(" pictures").split(", ")]
        assert sum(counts) == facts["mapped"]
        page.screenshot(path=kept / f"Map-score-{scheme}.png")
        assert_accessible(page, "Map by score")
        page.reload()
        expect(page.get_by_role("region", name="Colours:").locator(".bars")).to_be_visible()
        assert choice.input_value() == "score:blur_score"
        choice.select_option("label")
        expect(page.get_by_role("region", name="Colours: label").locator(".bars")).to_have_count(0)
        page.evaluate("localStorage.setItem('imagesieve.map-colour', JSON.stringify('rating:gone@1'))")
        page.reload()
        expect(page.get_by_role("region", name="Colours: label")).to_be_visible()
        assert choice.input_value() == "label"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_page_is_accessible(
    app: Served, browser: Browser, scheme: Any, viewport: dict[str, int], tmp_path: Path
) -> None:
    """A page with a serious fault by axe-core: contrast, names, roles; one that scrolls sideways."""
    kept = Path(os.environ.get("IMAGESIEVE_SCREENSHOTS") or tmp_path)
    another_run(app.lake)
    with page_of(browser, app, viewport=viewport, color_scheme=scheme, bypass_csp=True) as page:
        for tab in (*TABS, "detail"):
            if tab == "detail":
                page.get_by_role("link", name="Gallery").click()
                tiles(page).first.press("Enter")
                expect(page.get_by_role("dialog")).to_be_visible()
            else:
                page.get_by_role("link", name=tab).click()
            page.wait_for_load_state("networkidle")
            page.screenshot(path=kept / f"{tab}-{scheme}-{viewport['width']}.png")
            assert_accessible(page, tab)


def test_two_runs_compared(app: Served, browser: Browser) -> None:
    """A count that leads to other pictures, an address that does not show the same again, and a run whose findings are
    gone, which leaves the page empty."""
    came, went = another_run(app.lake)
    with page_of(browser, app, "&page=runs") as page:
        page.get_by_role("button", name="Show 1 new: Too dark").click()
        expect(tiles(page)).to_have_count(1)
        assert "new=" in page.url
        page.reload()
        expect(tiles(page)).to_have_count(1)
        expect(page.get_by_role("list", name="Filters in force")).to_contain_text("New findings: since")
        tiles(page).first.press("Enter")
        page.wait_for_url(f"**open={came}*")
        page.go_back()
        page.go_back()
        page.get_by_role("button", name="Show 1 gone: Near duplicates").click()
        expect(tiles(page)).to_have_count(1)
        tiles(page).first.press("Enter")
        page.wait_for_url(f"**open={went}*")
    DeltaTable(str(app.lake / "issues")).vacuum(0, enforce_retention_duration=False, dry_run=False)
    with (
        served(app.lake, app.lake.parent / "cache") as again,
        page_of(browser, again, "&page=runs", allowed="400") as page,
    ):
        expect(page.get_by_role("alert")).to_contain_text("was vacuumed")


def test_folders_and_what_is_fine(app: Served, browser: Browser) -> None:
    """A way down that shows other pictures, a folder that is kept without a question, what was decided before, and an
    undo that leaves a part."""
    level = app.ask("/api/folders")
    name, images = level["folders"][0]
    folder = f"{level['folder']}{name}/"
    with page_of(browser, app, bypass_csp=True) as page:
        page.get_by_role("button", name="Folder", exact=True).click()
        page.get_by_role("group", name="Folders").get_by_role("button").filter(has_text=f"{name}/").click()
        expect(page.get_by_role("status").filter(has_text=f"{images} picture")).to_be_visible()
        first = app.ask(f"/api/rows?{urlencode({'folder': folder})}&limit=1")["rows"][0]["id"]
        tiles(page).first.press("r")
        app.until("/api/rows?decision=remove", lambda told: told["total"] == 1)
        page.get_by_role("button", name="All of this folder is fine").click()
        asked = page.get_by_role("dialog")
        expect(asked).to_contain_text(f"Keep all {images - 1} undecided picture")
        expect(asked).to_contain_text("Pictures that come later")
        assert_accessible(page, "a folder that is fine")
        asked.get_by_role("button", name="Keep").click()
        expect(page.get_by_role("status").filter(has_text=f"{images - 1} kept")).to_be_visible()
        assert app.ask("/api/rows?decision=keep")["total"] == images - 1
        assert app.ask(f"/api/image/{first}")["decision"] == "remove"
        page.get_by_role("link", name="Progress").click()
        expect(page.get_by_role("heading", name="Folders marked as fine")).to_be_visible()
        expect(page.get_by_text("nothing new")).to_be_visible()
        page.keyboard.press("z")
        app.until("/api/rows?decision=keep", lambda told: told["total"] == 0)
        expect(page.get_by_role("heading", name="Folders marked as fine")).to_have_count(0)


def suggesting(lake: Path) -> None:
    """Puts other findings into a lake: 14 pictures are dark, to be looked at, 3 of others have a wrong label, and one
    is to be removed."""
    table = DeltaTable(str(lake / "issues")).to_pyarrow_table()
    ids = sorted(DeltaTable(str(lake / "features")).to_pyarrow_table(columns=["image_id"])["image_id"].to_pylist())
    blank = {**dict.fromkeys(table.schema.names), "score": 0.1}
    rows = [{**blank, "image_id": i, "issue": "dark", "suggestion": "review"} for i in ids[:14]]
    rows += [{**blank, "image_id": i, "issue": "wrong_label", "suggestion": "relabel", "suggested_label": label}
             for i, label in zip(ids[14:17], ("dog", "cat", "dog"), strict=True)]  # fmt: skip
    rows.append({**blank, "image_id": ids[17], "issue": "blurry", "suggestion": "remove"})
    write_deltalake(str(lake / "issues"), pa.Table.from_pylist(rows, schema=table.schema), mode="overwrite")


def test_accept_what_is_suggested_and_the_rest_like_those(labelled: Labelled, browser: Browser, tmp_path: Path) -> None:
    """Suggestions that are taken for pictures to review, a dialog that counts others than are decided, one step that is
    many to undo, and an offer that does another thing than was done before."""
    lake = tmp_path / "lake"
    shutil.copytree(labelled.lake, lake)
    suggesting(lake)
    with served(lake, tmp_path / "cache") as app, page_of(browser, app, "&suggestion=relabel", bypass_csp=True) as page:

        def comes_to(query: str, total: int) -> None:
            app.until(f"/api/rows?{query}", lambda told: told["total"] == total)

        tiles(page).first.focus()
        page.keyboard.press("y")  # one is not asked about
        comes_to("decision=relabel", 1)
        page.get_by_role("button", name="Clear all").click()
        total = app.ask("/api/rows")["total"]
        expect(page.get_by_role("status").filter(has_text=f"{total} pictures")).to_be_visible()
        tiles(page).first.focus()
        page.keyboard.press("Control+a")
        page.get_by_role("button", name="As suggested").click()
        asked = page.get_by_role("dialog")
        for text in ("Remove 1 picture, relabel 2 pictures, each as suggested?", "14 to review", "1 decided already"):
            expect(asked).to_contain_text(text)
        assert_accessible(page, "what is suggested")
        asked.get_by_role("button", name="Accept").click()
        comes_to("decision=relabel", 3)
        comes_to("decision=remove", 1)
        comes_to("suggestion=review&decision=", 14)
        page.reload()
        expect(tiles(page).first).to_be_visible()
        page.keyboard.press("z")  # of the page before, as one step
        comes_to("decision=relabel", 1)
        comes_to("decision=remove", 0)

        page.goto(f"{app.base}/?issue=dark")
        tiles(page).first.focus()
        for _ in range(10):
            page.keyboard.press("Shift+ArrowRight")
        expect(page.get_by_role("region", name="Selection")).to_contain_text("11 pictures")
        page.keyboard.press("r")
        comes_to("issue=dark&decision=remove", 11)
        page.get_by_role("link", name="Progress").click()
        page.get_by_role("button", name="Remove the other 3").click()
        expect(asked).to_contain_text("100% of the 11 that were judged were removed (74% to 100%, 95 % interval).")
        assert_accessible(page, "the rest of them")
        asked.get_by_role("button", name="Remove").click()
        comes_to("issue=dark&decision=remove", 14)
        page.keyboard.press("z")
        comes_to("issue=dark&decision=remove", 11)


def test_a_key_before_the_pictures_are_there(app: Served, browser: Browser) -> None:
    """A place in the view that a key forgets while the rows are on their way."""
    place = app.ask("/api/rows")["total"] // 2
    with page_of(browser, app) as page:

        def hold(_: Route) -> None:
            """Neither answers a request nor lets it go."""

        page.route("**/api/rows?*", hold)
        with page.expect_request("**/api/rows?*"):
            page.goto(f"{app.base}/?at={place}")
        page.keyboard.press("ArrowRight")
        page.unroute("**/api/rows?*")  # lets them go
        expect(tiles(page).first).to_be_visible()
        page.keyboard.press("ArrowRight")
        expect(page.locator(f"[data-index='{place + 1}']")).to_be_focused()


def test_an_address_of_a_picture_alone(app: Served, browser: Browser) -> None:
    """A picture that cannot be stepped from when its address names no place, or names another's."""
    rows = app.ask("/api/rows?sort=-blur_score&limit=500")["rows"]
    place = len(rows) * 2 // 3
    with page_of(browser, app, f"&sort=-blur_score&open={rows[place]['id']}&at=3") as page:
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_role("status").filter(has_text=f"{place + 1} of {len(rows)}")).to_be_visible()
        page.keyboard.press("ArrowRight")
        page.wait_for_url(f"**open={rows[place + 1]['id']}*")
        page.reload()
        expect(dialog.get_by_role("status").filter(has_text=f"{place + 2} of {len(rows)}")).to_be_visible()
        page.keyboard.press("ArrowLeft")
        page.wait_for_url(f"**open={rows[place]['id']}*")
        page.keyboard.press("?")
        expect(page.get_by_text("accept what is suggested", exact=True)).to_be_visible()
