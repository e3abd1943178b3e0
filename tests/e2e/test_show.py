"""The app inside a notebook: a page of the notebook's origin shows it in a real browser, others do not, and it ends."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imagesieve
import psutil
import pytest
from imagesieve import showing
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e import lakes
from tests.e2e.conftest import Labelled

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on PATH")


@contextmanager
def notebook(body: list[str]) -> Iterator[str]:
    """A page that holds what a cell shows, at an origin of its own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = f"<!doctype html><title>notebook</title>{body[0]}".encode()
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def lake(labelled: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> imagesieve.Lake:
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(showing, "_running", {})
    shutil.copytree(labelled.lake, tmp_path / "lake")
    return imagesieve.open(tmp_path / "lake")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--test-third-party-cookie-phaseout"]
        )
        yield opened
        opened.close()


def refused(page: Page, address: str) -> list[str]:
    """What the console says of a page that frames the app in vain."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(address)
    deadline = time.monotonic() + 20
    while not said and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    return said


@needs_chromium
def test_a_notebook_shows_it_and_other_pages_do_not(lake: imagesieve.Lake, browser: Browser) -> None:
    """A frame that stays empty where cookies of other sites are blocked, pictures and decisions that do not come
    through, a filter that is passed over, and a page of another origin that frames it, or asks in its place."""
    body = [""]
    with notebook(body) as mine, notebook(body) as another:
        shown = lake.show(issue="near_duplicate", height=700, origin=mine)
        body[0] = shown._repr_html_()
        near = lake.arrow("issues", ["issue"])["issue"].to_pylist().count("near_duplicate")
        try:
            context = browser.new_context(viewport={"width": 1300, "height": 900})
            page = context.new_page()
            page.set_default_timeout(20_000)
            page.goto(mine)
            frame = page.frame_locator("iframe")
            cells = frame.get_by_role("grid", name="Pictures").locator("[role=gridcell]:not([aria-busy])")
            expect(cells).to_have_count(near)
            expect(frame.locator("img.thumb").first).to_be_visible()
            assert frame.locator("img.thumb").first.evaluate("each => each.decode().then(() => each.naturalWidth)") > 0
            cells.first.click()
            page.keyboard.press("r")
            expect(frame.get_by_role("status").filter(has_text="emove").first).to_be_visible()
            assert context.cookies() == []
            asked = page.evaluate(
                "url => fetch(url + 'api/lake').then(answer => answer.text(), error => 'refused: ' + error)",
                shown.url.partition("?")[0],
            )
            assert asked.startswith("refused")
            context.close()
            rows = lake.arrow("reviews").to_pylist()
            assert [row["decision"] for row in rows] == ["remove"]
            context = browser.new_context()
            said = refused(context.new_page(), another)
            assert any("frame-ancestors" in text or "violates" in text for text in said), said
            context.close()
        finally:
            shown.close()


def test_one_server_for_a_lake_and_none_after(lake: imagesieve.Lake) -> None:
    """A server for each cell, one that stays after close(), and one of another kind that is taken for it."""
    first, second = lake.show(issue="dark"), lake.show(where="split=train&sort=-blur_score", height=300)
    other = lake.show(read_only=True)
    assert first.url.partition("?")[0] == second.url.partition("?")[0] != other.url.partition("?")[0]
    assert second.url.endswith("/?split=train&sort=-blur_score")
    assert 'height="300"' in second._repr_html_()
    processes = [psutil.Process(server._process.pid) for server in showing._running.values()]
    assert len(processes) == 2
    other.close()
    first.close()
    second.close()
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)
    again = lake.show()
    assert again.url.partition("?")[0] != first.url.partition("?")[0]
    again.close()


def test_what_cannot_be_shown_is_one_line(lake: imagesieve.Lake, tmp_path: Path) -> None:
    """A frame around an error, and a wait for a server that has ended."""
    with pytest.raises(imagesieve.RunError, match="no filter 'isue'"):
        lake.show(isue="dark")
    with pytest.raises(imagesieve.RunError, match="show: issue"):
        lake.show(issue="nosuch")
    with pytest.raises(imagesieve.RunError, match="height must be"):
        lake.show(height=0)
    with pytest.raises(imagesieve.RunError, match="--embed: must be the origin"):
        lake.show(origin="*")
    with pytest.raises(imagesieve.RunError, match="is no lake yet"):
        imagesieve.Lake(str(tmp_path / "none")).show()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_it_ends_with_the_kernel(lake: imagesieve.Lake, tmp_path: Path, how: signal.Signals | None) -> None:
    """A server that stays when its kernel was killed, ended or is over; one that an interrupt of a cell ends."""
    program = (
        "import imagesieve, sys\n"
        f"shown = imagesieve.open({lake.uri!r}).show()\n"
        "from imagesieve import showing\n"
        "print(next(iter(showing._running.values()))._process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    kernel = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=lakes.clean_environment(IMAGESIEVE_CACHE=str(tmp_path / "cache")), start_new_session=True,
    )  # fmt: skip
    assert kernel.stdout is not None
    assert kernel.stdin is not None
    server = psutil.Process(int(kernel.stdout.readline()))
    assert os.getpgid(server.pid) != os.getpgid(kernel.pid)
    if how is None:
        kernel.stdin.close()
    else:
        kernel.send_signal(how)
    kernel.wait(20)
    gone, left = psutil.wait_procs([server], timeout=20)
    assert gone
    assert not left


def test_the_notebook_server_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook server at another port than the usual one, whose page shows an empty frame."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JPY_PARENT_PID", "4711")
    usual = ["http://127.0.0.1:8888", "http://localhost:8888"]
    assert showing.notebook_origins() == usual
    told = {"url": "https://My-Host:9001/", "port": 9001, "pid": 4711}
    (tmp_path / "jpserver-4711.json").write_text(json.dumps(told))
    assert showing.notebook_origins() == ["https://127.0.0.1:9001", "https://localhost:9001", "https://my-host:9001"]
    for wrong in ("[]", "{", '{"url": 5}', '{"url": "ftp://x", "port": 1}', '{"url": "http://x", "port": "a"}'):
        (tmp_path / "jpserver-4711.json").write_text(wrong)
        assert showing.notebook_origins() == usual
