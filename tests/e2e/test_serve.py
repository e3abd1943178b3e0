"""The app in a real browser: what is shown, asked and decided, by mouse and keys, light and dark, wide and narrow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2 as httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright
from pyspark.sql import SparkSession

from tests.e2e import lakes
from tests.e2e.conftest import Labelled

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on PATH")
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
TABS = ("Gallery", "Map", "Copies", "Labels", "Progress")


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
def page_of(browser: Browser, app: Served, path: str = "", **settings: Any) -> Iterator[Page]:
    """A page on which nothing goes wrong, and which asks nobody else."""
    context = browser.new_context(viewport=settings.pop("viewport", WIDE), **settings)
    page = context.new_page()
    page.set_default_timeout(20_000)
    wrong: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type == "error" and "404" not in message.text:  # of images that cannot be read
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
    return page.get_by_role("grid", name="Pictures").locator("[role=gridcell]:not([aria-busy])")


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
        page.wait_for_function(
            f"() => fetch('/api/image/{first['id']}').then(a => a.json()).then(a => a.decision === null)"
        )
        tiles(page).first.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        assert "open=" in page.url
        page.keyboard.press("k")
        page.wait_for_function(
            f"() => fetch('/api/image/{first['id']}').then(a => a.json()).then(a => a.decision === 'keep')"
        )
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
        page.wait_for_function("() => fetch('/api/rows?decision=skip').then(a => a.json()).then(a => a.total > 0)")
    assert app.ask("/api/rows?decision=skip")["total"] == expected


def test_search_by_words_and_by_picture(app: Served, browser: Browser, labelled: Labelled) -> None:
    """A search that finds nothing, or something else than what was asked for first."""
    first = app.ask("/api/rows?limit=50")["rows"]
    one = next(row for row in first if row["readable"] and not row["cluster"])
    with page_of(browser, app) as page:
        expect(tiles(page).first).to_be_visible()
        page.get_by_label("Picture to search with").set_input_files(one["uri"])
        page.wait_for_url("**picture=**")
        expect(tiles(page).first).to_contain_text(one["uri"].rsplit("/", 1)[1])


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
        page.wait_for_function("() => fetch('/api/rows?decision=skip').then(a => a.json()).then(a => a.total > 0)")
        skipped = app.ask("/api/rows?decision=skip&limit=500")["rows"]
        assert {row["id"] for row in skipped} == {row["id"] for row in held["rows"]}
        page.get_by_role("button", name="In the gallery").click()
        expect(tiles(page).first).to_be_visible()
        assert parse_qs(urlsplit(page.url).query)["lasso"] == [lasso]
        page.go_back()
        expect(page.get_by_role("region", name="Lasso")).to_be_visible()
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
        page.mouse.move(left, top)
        for step in range(1, 400):  # along a line, until a point is under the pointer
            page.mouse.move(left + (area["width"] - 300) * step / 400, top + (area["height"] - 10) * step / 400)
            if page.locator(".card b").count():
                break
        name = page.locator(".card b").filter(has_not_text="…").text_content()
        page.mouse.down()
        page.mouse.up()
        expect(page.get_by_role("dialog")).to_be_visible()
        opened = app.ask(f"/api/image/{parse_qs(urlsplit(page.url).query)['open'][0]}")
        assert opened["name"].endswith(str(name))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_page_is_accessible(
    app: Served, browser: Browser, scheme: Any, viewport: dict[str, int], tmp_path: Path
) -> None:
    """A page with a serious fault by axe-core: contrast, names, roles; one that scrolls sideways."""
    kept = Path(os.environ.get("IMAGESIEVE_SCREENSHOTS") or tmp_path)
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
            found = Axe().run(page).response["violations"]
            serious = [each for each in found if each["impact"] in ("serious", "critical")]
            assert not serious, (tab, [(each["id"], [n["html"][:200] for n in each["nodes"][:2]]) for each in serious])
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), tab
