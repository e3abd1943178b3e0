"""Catches what an app on this machine must not answer, and a request that ends it."""

from __future__ import annotations

import io
import json
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from PIL import Image
from starlette.testclient import TestClient

from jobs.engines import datasets
from jobs.errors import ConfigError, LakeError
from jobs.serve import command
from jobs.serve import lake_app as app_module
from jobs.serve.columns import NULL, STEPS, Coded
from jobs.serve.maps import answers
from jobs.serve.server import application
from jobs.serve.web.guard import Embedding, Guard, origins
from tests.bench import live_albums, serve_lake
from udfs.albums import files
from udfs.albums.packs import Pictures, key_of
from udfs.children import pool
from udfs.networks import models
from udfs.stores import fetch

IMAGES = 400
PORT = 8765
HOST = f"127.0.0.1:{PORT}"
TOKEN = "a-token-of-this-test"
EVIL = "<script>alert(1)</script>\"'&"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "lake"
    serve_lake.write(folder, IMAGES, labels=7)
    return folder


def opened(lake: Path, read_only: bool = False) -> app_module.App:
    found = app_module.App(str(lake), "anna", read_only, fetch.Limits(), 10**8)
    for _ in range(600):
        if found.facts()["ready"] or found.facts()["fault"]:
            break
        threading.Event().wait(0.05)
    assert found.facts()["ready"], found.facts()
    return found


@pytest.fixture(scope="module")
def app(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[app_module.App]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGESIEVE_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = opened(lake)
        yield found
        found.close()
        pool.close()


def client_of(app: app_module.App, **headers: str) -> TestClient:
    guarded = Guard(application(app), frozenset({HOST}), TOKEN, PORT, secure=False)
    return TestClient(guarded, base_url=f"http://{HOST}", headers=headers, raise_server_exceptions=False)


@pytest.fixture
def client(app: app_module.App) -> TestClient:
    """A browser that has opened the address."""
    found = client_of(app, **{"x-imagesieve": "1"})
    assert found.get(f"/?token={TOKEN}&split=val").history[0].headers["location"] == "/?split=val"
    return found


def test_the_token_opens_and_leaves_the_address(client: TestClient) -> None:
    """A page without it, or one that can be shown inside another or load from elsewhere."""
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert client.get("/app.js").status_code == client.get("/app.css").status_code == 200


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 401),
        ("/?token=wrong", {}, 401),
        ("/api/lake", {}, 401),
        ("/app.js", {}, 401),
        ("/api/lake", {"authorization": "Bearer wrong"}, 401),
        ("/api/lake", {"authorization": f"Bearer {TOKEN}"}, 200),
        ("/api/lake", {"cookie": f"imagesieve-{PORT}={TOKEN}"}, 200),
        ("/api/lake", {"cookie": f"imagesieve-{PORT}={TOKEN}", "host": "evil.example"}, 403),
        ("/api/lake", {"cookie": f"imagesieve-{PORT}={TOKEN}", "host": f"evil.example:{PORT}"}, 403),
        ("/api/lake", {"cookie": f"imagesieve-{PORT}={TOKEN}", "origin": "https://evil.example"}, 403),
        ("/api/lake", {"cookie": f"imagesieve-{PORT}={TOKEN}", "origin": "null"}, 403),
        ("/api/lake", {"cookie": f"imagesieve-{PORT}={TOKEN}", "sec-fetch-site": "cross-site"}, 403),
        ("/api/lake", {"cookie": f"imagesieve-{PORT}={TOKEN}", "sec-fetch-site": "same-site"}, 403),
        ("/api/lake", {"cookie": b"\xe9=\xff; ="}, 401),
    ],
)
def test_who_may_ask(app: app_module.App, path: str, headers: dict[str, Any], status: int) -> None:
    """No token, another one, another host (DNS rebinding), another page."""
    assert client_of(app).get(path, headers=headers, follow_redirects=False).status_code == status


def test_another_page_cannot_post(app: app_module.App) -> None:
    """A form of another page that a browser sends with the cookie."""
    cookie = {"cookie": f"imagesieve-{PORT}={TOKEN}"}
    body = json.dumps({"ids": [1], "decision": "remove"})
    answer = client_of(app).post("/api/decide", content=body, headers=cookie)
    assert answer.status_code == 403
    assert not app.open.decisions.recent(9)


INSIDE = Embedding("a-token-of-frames", ("http://localhost:8888", "https://notebooks.example"))
FRAMED = INSIDE.path


def embedded_client(app: app_module.App) -> TestClient:
    guarded = Guard(application(app), frozenset({HOST}), TOKEN, PORT, secure=False, embedding=INSIDE)
    return TestClient(guarded, base_url=f"http://{HOST}", raise_server_exceptions=False)


def test_only_named_pages_frame_the_app(app: app_module.App) -> None:
    """A page of any origin that frames it, a cookie or a token that goes from one way in to the other."""
    client = embedded_client(app)
    page = client.get(FRAMED, headers={"sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe"})
    assert page.status_code == 200
    assert page.headers["content-security-policy"].endswith(
        "frame-ancestors http://localhost:8888 https://notebooks.example"
    )
    assert "set-cookie" not in page.headers
    assert client.get(f"{FRAMED}api/lake", headers={"sec-fetch-site": "same-origin"}).json()["images"] == IMAGES
    own = {"authorization": f"Bearer {TOKEN}"}
    policy = client.get("/", headers=own).headers["content-security-policy"]
    assert policy.endswith("frame-ancestors 'none'")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/embedded/wrong/", {}, 401),
        ("/embedded/wrong/api/lake", {"authorization": f"Bearer {TOKEN}", "cookie": f"imagesieve-{PORT}={TOKEN}"}, 401),
        (f"/embedded/{TOKEN}/", {}, 401),
        (FRAMED.rstrip("/"), {}, 401),
        ("/embedded/", {}, 401),
        ("/api/lake", {"authorization": f"Bearer {INSIDE.token}"}, 401),
        ("/api/lake", {"cookie": f"imagesieve-{PORT}={INSIDE.token}"}, 401),
        (f"/?token={INSIDE.token}", {}, 401),
        (f"{FRAMED}api/lake", {"host": "evil.example"}, 403),
        (f"{FRAMED}api/lake", {"origin": "http://localhost:8888"}, 403),
        (f"{FRAMED}api/lake", {"origin": "null"}, 403),
        (f"{FRAMED}api/lake", {"sec-fetch-site": "cross-site"}, 403),
        (f"{FRAMED}app.js", {"sec-fetch-site": "same-site"}, 403),
        (f"{FRAMED}../../etc/passwd", {}, 404),
    ],
)
def test_who_may_ask_inside_a_page(app: app_module.App, path: str, headers: dict[str, Any], status: int) -> None:
    """The page around it, which may frame but not ask; another host; one token in the place of the other."""
    if ".." in path:
        path = path.replace("..", "%2e%2e")
    assert embedded_client(app).get(path, headers=headers, follow_redirects=False).status_code == status


def test_no_page_posts_into_the_frame(app: app_module.App) -> None:
    """A form of the page around it."""
    client, body = embedded_client(app), {"ids": [1], "decision": "remove"}
    assert client.post(f"{FRAMED}api/decide", json=body).status_code == 403
    assert client.post(f"{FRAMED}api/decide", json=body, headers={"origin": "http://localhost:8888"}).status_code == 403
    assert not app.open.decisions.recent(9)
    done = client.post(f"{FRAMED}api/decide", json=body, headers={"x-imagesieve": "1", "origin": f"http://{HOST}"})
    assert done.json()["count"] == 1
    client.post(f"{FRAMED}api/undo", json={}, headers={"x-imagesieve": "1"})


@pytest.mark.parametrize(
    "origin",
    ["*", "localhost:8888", "http://*", "http://a b", "http://a;script-src *", "http://a/path", "javascript:alert(1)",
     "http://a' 'unsafe-inline", "http://", "file://", "http://a:999999", "http://a\nx", "http://-a"],
)  # fmt: skip
def test_origins_that_are_none(lake: Path, origin: str) -> None:
    """A policy that lets everybody in, or that ends before its end."""
    with pytest.raises(ValueError, match="must be the origin"):
        origins([origin])
    with pytest.raises(ConfigError, match="--embed: must be the origin"):
        command.main(["--lake", str(lake), "--no-browser", "--embed", origin])


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/static/../server.py", "/%2e%2e/%2e%2e/etc/passwd", "/app.js/..%2f..%2fserver.py",
     "/api/thumb/../../x", "/api/thumb/-1", "/api/thumb/99999999999999999999999", "/api/image/1.5", "/api/picture/abc",
     "/api/image/100000"],
)  # fmt: skip
def test_no_other_file_is_read(client: TestClient, path: str) -> None:
    """A path that leads out of the package, or an id that is none."""
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "query",
    ["issue=nosuch", "limit=501", "limit=-1", "limit=1e3", "offset=" + "9" * 40, "sort=;", "like=999999",
     "picture=none", "words=dog", "score=a:b:c", "cluster=x", "new=norun", "gone=norun/dark", "new=../..", "gone=%00"],
)  # fmt: skip
def test_bad_views_are_one_line(client: TestClient, query: str) -> None:
    """A traceback, or a page of what lies behind."""
    answer = client.get(f"/api/rows?{query}")
    assert answer.status_code == 400
    assert "\n" not in answer.json()["detail"]


def test_rows_are_what_the_lake_holds(client: TestClient, app: app_module.App) -> None:
    """A page of a view that skips, repeats or invents."""
    seen: list[int] = []
    while len(seen) < IMAGES:
        page = client.get(f"/api/rows?sort=-blur_score&offset={len(seen)}&limit=150").json()
        assert page["total"] == IMAGES
        seen += [row["id"] for row in page["rows"]]
    assert sorted(seen) == list(range(IMAGES))
    step = client.get("/api/step?sort=-blur_score&position=0").json()
    assert (step["previous"], step["id"], step["next"]) == (None, seen[0], seen[1])
    last = client.get(f"/api/step?sort=-blur_score&position={IMAGES - 1}").json()
    assert (last["previous"], last["id"], last["next"]) == (seen[-2], seen[-1], None)
    past = client.get(f"/api/step?sort=-blur_score&position={IMAGES + 5}").json()
    assert (past["previous"], past["id"], past["next"]) == (None, None, None)
    image = client.get(f"/api/image/{seen[0]}").json()
    assert image["id"] == seen[0]
    assert client.get("/api/lake").json()["images"] == IMAGES
    assert client.get("/api/clusters?limit=2").json()["total"] == IMAGES // 20
    assert client.get("/api/confusions").status_code == client.get("/api/facets").status_code == 200


def test_step_by_id(client: TestClient) -> None:
    """Neighbours of another picture, or of one that the view does not hold."""
    query = "sort=-blur_score&split=train"
    seen = [row["id"] for row in client.get(f"/api/rows?{query}&limit=500").json()["rows"]]
    for place in (0, 7, len(seen) - 1):
        by_id = client.get(f"/api/step?{query}&id={seen[place]}")
        assert by_id.json() == client.get(f"/api/step?{query}&position={place}").json()
        assert by_id.json()["id"] == seen[place]
    assert client.get("/api/step?id=17").json()["position"] == 17
    (other, *_) = set(range(IMAGES)) - set(seen)
    assert client.get(f"/api/step?{query}&id={other}").status_code == 404
    assert client.get("/api/step?id=99999999").status_code == 404
    assert client.get("/api/step?id=-1").status_code == client.get("/api/step?id=" + "9" * 19).status_code == 400


def test_the_server_tells_its_time(client: TestClient) -> None:
    """A header that a bench cannot read, or that says more than a time."""
    for path in ("/api/rows", "/app.css", "/api/nosuch"):
        match = re.fullmatch(r"app;dur=([0-9]+\.[0-9]{2})", client.get(path).headers["server-timing"])
        assert match
        assert 0 < float(match[1]) < 60_000


def test_runs_of_a_lake_that_has_none(client: TestClient) -> None:
    """A server error where there is nothing to compare, and no word of why it is not known which run brought what."""
    assert client.get("/api/states").json() == {"states": [], "unknown": "this lake has no table of runs"}
    assert client.get("/api/changes?since=").status_code == 400
    assert "no run x" in client.get("/api/changes?since=x").json()["detail"]


def test_folders(client: TestClient) -> None:
    """A level that is not that of the view, and a folder that keeps what was decided otherwise, or cannot be undone."""
    level = client.get("/api/folders?issue=dark").json()
    assert level["root"] == level["folder"] == "/data/photos/"
    assert sum(count for _, count in level["folders"]) == client.get("/api/rows?issue=dark").json()["total"]
    folder = "/data/photos/class 0003/"
    rows = client.get("/api/rows", params={"folder": folder, "limit": 500}).json()
    ids = [row["id"] for row in rows["rows"]]
    assert client.get("/api/folders", params={"folder": folder}).json()["here"] == rows["total"] == len(ids)
    client.post("/api/decide", json={"ids": ids[:1], "decision": "remove"})
    asked = {"folder": folder}
    assert client.post("/api/keep-folder", json={**asked, "count_only": True}).json()["count"] == len(ids) - 1
    assert client.get("/api/rows?decision=keep").json()["total"] == 0
    done = client.post("/api/keep-folder", json=asked).json()
    assert done["count"] == client.get("/api/rows?decision=keep").json()["total"] == len(ids) - 1
    assert client.get(f"/api/image/{ids[0]}").json()["decision"] == "remove"
    assert all(each["wrong"] == 0 for each in client.get("/api/reviews").json()["issues"])
    (marked,) = client.get("/api/reviews").json()["folders"]
    assert (marked["folder"], marked["kept"], marked["undecided"]) == (folder, len(ids) - 1, 0)
    assert client.post("/api/keep-folder", json=asked).status_code == 400  # there is nothing left to keep
    for bad in ({}, {"folder": 5}, {"folder": "no slash"}, {"folder": "/nowhere/"}):
        assert client.post("/api/keep-folder", json=bad).status_code == 400
    client.post("/api/undo", json={"batch": done["batch"]})
    client.post("/api/undo", json={})
    assert client.get("/api/reviews").json()["folders"] == []
    assert client.get("/api/rows?decision=").json()["total"] == IMAGES


def test_accept_what_is_suggested(client: TestClient) -> None:
    """A picture to review that is decided, one whose suggestion is another, a count that is not what is done, and a
    step that stays in part when it is undone."""
    rows = client.get("/api/rows?limit=500").json()["rows"]
    of = {name: {row["id"] for row in rows if row["suggestion"] == name} for name in ("remove", "relabel", "review")}
    first = min(of["remove"])
    client.post("/api/decide", json={"ids": [first], "decision": "keep"})
    expected = {"remove": len(of["remove"]) - 1, "relabel": len(of["relabel"]), "decided": 1,
                "review": len(of["review"]), "others": IMAGES - sum(map(len, of.values()))}  # fmt: skip
    counted = client.post("/api/accept", json={"view": "", "count_only": True}).json()
    assert counted == {"batch": None, **expected}
    assert client.get("/api/rows?decision=").json()["total"] == IMAGES - 1
    done = client.post("/api/accept", json={"view": ""}).json()
    assert done == {"batch": done["batch"], **expected}
    for row in client.get("/api/rows?limit=500").json()["rows"]:
        wanted = "keep" if row["id"] == first else {"review": None}.get(row["suggestion"], row["suggestion"])
        assert row["decision"] == wanted
        assert row["decided_label"] == (row["suggested_label"] if wanted == "relabel" else None)
    told = client.get("/api/reviews").json()["recent"][0]
    assert told["count"] == expected["remove"] + expected["relabel"]
    again = client.post("/api/accept", json={"view": ""}).json()
    assert (again["batch"], again["remove"], again["relabel"]) == (None, 0, 0)
    assert client.post("/api/undo", json={}).json()["count"] == told["count"]
    assert client.get("/api/rows?decision=").json()["total"] == IMAGES - 1
    some = [*sorted(of["relabel"])[:3], *sorted(of["remove"])[1:3], *sorted(of["review"])[:1]]
    only = client.post("/api/accept", json={"ids": some, "only": ["relabel"]}).json()
    assert (only["relabel"], only["remove"], only["review"], only["others"]) == (3, 0, 1, 2)
    client.post("/api/undo", json={})
    client.post("/api/undo", json={})
    assert client.get("/api/rows?decision=").json()["total"] == IMAGES
    for bad in ({}, {"view": "", "only": ["keep"]}, {"view": "", "only": []}, {"ids": ["x"]}, {"view": "issue=x"}):
        assert client.post("/api/accept", json=bad).status_code == 400


def test_the_rest_is_offered_once_enough_were_judged(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """An offer after too few, where people differ, or for pictures that are decided."""
    monkeypatch.setattr("jobs.serve.rules.agreement.ENOUGH", 3)

    def dark() -> dict[str, Any]:
        return next(each for each in client.get("/api/reviews").json()["issues"] if each["issue"] == "dark")

    ids = [row["id"] for row in client.get("/api/rows?issue=dark&limit=500").json()["rows"]]
    assert len(ids) > 3
    client.post("/api/decide", json={"ids": ids[:2], "decision": "remove"})
    assert dark()["offer"] is None
    client.post("/api/decide", json={"ids": ids[2:3], "decision": "remove"})
    told = dark()
    assert (told["offer"], told["rest"], told["alike"]) == ("remove", len(ids) - 3, 1)
    assert 0 < told["alike_low"] < 0.5 < told["alike_high"] <= 1
    client.post("/api/decide", json={"ids": ids[:1], "decision": "keep"})
    assert dark()["offer"] is None
    for _ in range(3):
        client.post("/api/undo", json={})
    assert client.get("/api/rows?decision=").json()["total"] == IMAGES


def test_tables_that_change_while_the_app_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings of one version beside properties of another, a table that is opened for every picture, and a server
    error once the old version was vacuumed."""
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path / "cache"))
    serve_lake.write(tmp_path / "lake", 50, labels=3)
    found = opened(tmp_path / "lake")
    try:
        client = client_of(found, authorization=f"Bearer {TOKEN}")
        path = str(tmp_path / "lake" / "issues")
        rows = DeltaTable(path).to_pyarrow_table()
        image_id = rows["image_id"][0].as_py()
        times = datasets.dataset
        asked: list[str] = []

        def counted(lake: str, table: str, version: int | None = None) -> Any:
            asked.append(table)
            return times(lake, table, version)

        monkeypatch.setattr(datasets, "dataset", counted)
        before = client.get(f"/api/image/{image_id}").json()["findings"]
        assert before
        assert client.get(f"/api/image/{image_id}").json()["findings"] == before
        assert sorted(asked) == ["concepts", "features", "issues"]
        write_deltalake(path, rows.slice(0, 0), mode="overwrite")
        assert client.get(f"/api/image/{image_id}").json()["findings"] == before  # as the gallery beside it
        DeltaTable(path).vacuum(0, enforce_retention_duration=False, dry_run=False)
        after = client.get(f"/api/image/{image_id}").json()
        assert (after["findings"], after["issues"]) == ([], [])
    finally:
        found.close()


def test_decisions(client: TestClient, app: app_module.App) -> None:
    """A decision that a filter does not know, of other images, or that cannot be taken back."""
    dark = client.get("/api/rows?issue=dark&limit=500").json()["total"]
    done = client.post("/api/decide", json={"view": "issue=dark", "decision": "remove"}).json()
    assert done["count"] == dark
    assert client.get("/api/rows?decision=remove").json()["total"] == dark
    assert client.get("/api/reviews").json()["issues"] == []  # nobody has looked at each of them
    ids = [row["id"] for row in client.get("/api/rows?issue=dark&limit=500").json()["rows"]]
    client.post("/api/decide", json={"ids": ids, "decision": "remove"})
    told = {each["issue"]: each for each in client.get("/api/reviews").json()["issues"]}["dark"]
    assert (told["right"], told["wrong"]) == (dark, 0)
    assert client.post("/api/undo", json={}).json() == {"count": dark}
    assert client.get("/api/reviews").json()["issues"] == []
    assert client.post("/api/decide", json={"ids": [0], "decision": "relabel", "label": EVIL, "note": EVIL}).is_success
    image = client.get("/api/image/0").json()
    assert (image["decided_label"], image["history"][-1]["note"]) == (EVIL, EVIL)
    assert client.post("/api/undo", json={}).json() == {"count": 1}
    assert client.post("/api/undo", json={"batch": done["batch"]}).json() == {"count": dark}
    assert client.get("/api/rows?decision=").json()["total"] == IMAGES
    assert client.post("/api/undo", json={}).status_code == 404


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"ids": [1]}', b'{"ids": ["1"], "decision": "keep"}', b'{"ids": [true], "decision": "keep"}',
     b'{"ids": [-1], "decision": "keep"}', b'{"ids": [1e3], "decision": "keep"}', b'{"view": 5, "decision": "keep"}',
     b'{"ids": [1], "view": "", "decision": "keep"}', b'{"ids": [1], "decision": "keep", "label": 5}',
     b'{"ids": [99999999], "decision": "keep"}', b"\xff\xfe", b'{"ids": [1], "decision": "burn"}',
     b'{"view": "issue=nosuch", "decision": "keep"}'],
)  # fmt: skip
def test_bad_decisions_are_refused(client: TestClient, body: bytes) -> None:
    """A body that ends the server, or is taken for another."""
    assert client.post("/api/decide", content=body).status_code == 400
    assert client.get("/api/rows?decision=").json()["total"] == IMAGES


def test_too_much_is_refused(client: TestClient) -> None:
    """A body without a bound."""
    assert client.post("/api/decide", content=b" " * (17 << 20)).status_code == 413


def test_read_only(lake: Path) -> None:
    """A decision where none was allowed."""
    found = opened(lake, read_only=True)
    try:
        answer = client_of(found, **{"x-imagesieve": "1", "authorization": f"Bearer {TOKEN}"}).post(
            "/api/decide", json={"ids": [1], "decision": "keep"}
        )
        assert answer.status_code == 403
    finally:
        found.close()


def test_missing_pictures_are_no_pictures(client: TestClient) -> None:
    """Images that are not where the lake says: no server error, and no wait without end."""
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: client.get(f"/api/thumb/{i}").status_code, range(40)))
    assert set(answers) == {404}
    assert client.get("/api/picture/3").status_code == 404


def test_hostile_pictures_to_search_by(client: TestClient) -> None:
    """A bomb, a page or a drawing of code that is taken for a picture. This lake has no vectors: all are refused."""
    sink = io.BytesIO()
    Image.new("1", (30000, 30000)).save(sink, "png")
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    for data in (sink.getvalue(), svg, b"", b"GIF89a" + b"\xff" * 50):
        assert client.post("/api/picture", content=data).status_code == 400


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "0.0.0.0"], "other hosts could ask"),
        (["--host", "192.168.0.1", "--allow-remote"], "other hosts could ask"),
        (["--port", "99999"], "cannot listen"),
        (["--host", "example.org"], "other hosts could ask"),
    ],
)
def test_bad_arguments(lake: Path, arguments: list[str], told: str) -> None:
    """A server that others can reach by a slip."""
    with pytest.raises(ConfigError, match=told):
        command.main(["--lake", str(lake), "--no-browser", *arguments])


def test_no_lake(tmp_path: Path) -> None:
    """A server of nothing."""
    with pytest.raises(LakeError, match="is no lake yet"):
        command.main(["--lake", str(tmp_path / "none"), "--no-browser", "--port", "0"])


def test_facts_say_what_there_is(client: TestClient) -> None:
    """A page that promises a search which the lake cannot do, or names a score that no image has."""
    facts: dict[str, Any] = client.get("/api/lake").json()
    assert facts["search"] == {"like": False, "words": False}
    assert {facet["name"] for facet in facts["facets"]} >= {"issue", "label", "decision", "split"}
    assert all(sum(score["bins"]) == IMAGES for score in facts["scores"])
    assert facts["labels"] == [f"class {number:04}" for number in range(7)]


def test_the_map_is_that_of_the_lake(client: TestClient, app: app_module.App, lake: Path) -> None:
    """Places, colours or a view of other rows than the gallery's; a lasso that list and map read differently."""
    columns = app.open.columns
    places = np.frombuffer(client.get("/api/map").content, "<u2").reshape(-1, 2)
    table = DeltaTable(str(lake / "map")).to_pyarrow_table().to_pylist()
    assert len(places) == IMAGES
    expected = {row["image_id"]: [round(row["x"] * STEPS), round(row["y"] * STEPS)] for row in table}
    found = {int(i): place.tolist() for i, place in zip(columns.id, places, strict=True)}
    assert {i: found[i] for i in expected} == expected
    assert {tuple(found[i]) for i in set(found) - set(expected)} == {(NULL, NULL)}
    assert client.get("/api/lake").json()["mapped"] == len(expected) < IMAGES

    data = client.get("/api/map/colours?facet=label").content
    length = int.from_bytes(data[:4], "little")
    told, codes = json.loads(data[4 : 4 + length]), data[4 + length :]
    assert len(codes) == IMAGES
    names = ["", *(name for name, _ in told["names"])]
    rows = client.get("/api/rows?limit=500").json()["rows"]
    coloured = {int(i): names[code] for i, code in zip(columns.id, codes, strict=True)}
    assert {row["id"]: row["label"] for row in rows} == coloured
    assert sum(count for _, count in told["names"]) + told["none"] + told["others"] == IMAGES

    query = "lasso=0.1,0.1,0.9,0.1,0.9,0.6,0.1,0.6&split=train"
    bits = np.unpackbits(np.frombuffer(client.get(f"/api/map/view?{query}").content, np.uint8), bitorder="little")
    listed = client.get(f"/api/rows?{query}&limit=500").json()
    assert sorted(columns.id[np.flatnonzero(bits)].tolist()) == sorted(row["id"] for row in listed["rows"])
    assert 0 < listed["total"] < IMAGES / 3
    everything = np.frombuffer(client.get("/api/map/view").content, np.uint8)
    assert np.unpackbits(everything, bitorder="little").sum() == IMAGES
    assert client.get("/api/map/row?row=5").json()["id"] == int(columns.id[5])


def scale(data: bytes) -> tuple[dict[str, Any], npt.NDArray[np.uint8]]:
    length = int.from_bytes(data[:4], "little")
    return json.loads(data[4 : 4 + length]), np.frombuffer(data[4 + length :], np.uint8)


def test_scores_and_ratings_as_colours(lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The colour of another picture's score, one of a picture that has none, a rating that is offered and not there, or
    there and not offered before the app is started again."""
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(lake, tmp_path / "lake")
    app = opened(tmp_path / "lake")
    try:
        client = client_of(app, authorization=f"Bearer {TOKEN}")
        columns = app.open.columns
        told, codes = scale(client.get("/api/map/colours?score=blur_score").content)
        scores = columns.numbers("blur_score") / STEPS
        assert told["none"] == 0
        assert 0 <= told["low"] < 0.1 < 0.9 < told["high"] <= 1
        meant = np.clip((scores - told["low"]) / (told["high"] - told["low"]), 0, 1)
        np.testing.assert_allclose((codes - 1.0) / (answers.SHADES - 1), meant, atol=0.003)

        assert client.get("/api/lake").json()["ratings"] == []
        assert client.get("/api/map/colours?rating=nice@1").status_code == 400
        (tmp_path / "lake" / "ratings-heads").mkdir()
        (tmp_path / "lake" / "ratings-heads" / "nice@1.safetensors").write_bytes(b"")
        ids = [5, 9, 10**6]
        table = {
            "image_id": pa.array(ids), "rating": ["nice@1"] * 3, "score": [3.0, 1.0, 2.0],
            "percentile": [1.0, 0.25, 0.5], "etag": pa.nulls(3, pa.string()),
        }  # fmt: skip
        write_deltalake(str(tmp_path / "lake" / "ratings"), pa.table(table))
        client.get("/api/states")
        assert client.get("/api/lake").json()["ratings"] == [{"name": "nice@1", "title": "nice@1"}]
        told, codes = scale(client.get("/api/map/colours?rating=nice@1").content)
        assert (round(told["low"], 4), told["high"], told["none"]) == (0.25, 1.0, IMAGES - 2)
        rows = columns.rows_of([5, 9])
        assert {i: int(codes[row]) for i, row in rows.items()} == {5: answers.SHADES, 9: 1}
        assert np.count_nonzero(codes) == 2
    finally:
        app.close()


@pytest.mark.parametrize(
    ("values", "ends"),
    [([NULL] * 5, (0.0, 1.0)), ([STEPS] * 5, (1.0, 1.0)), ([0, *[STEPS] * 500], (0.0, 1.0)), ([], (0.0, 1.0)),
     ([0, *[STEPS // 2] * 300, *[STEPS // 2 + 100] * 300, STEPS], (0.5, 0.50153))],
)  # fmt: skip
def test_ends_of_a_scale(values: list[int], ends: tuple[float, float]) -> None:
    """A division by nothing where all have one score; a single stray one that takes the colours from all others."""
    told, codes = scale(answers.shades(np.array(values, np.uint16)))
    assert (told["low"], told["high"]) == ends
    assert [code == 0 for code in codes] == [value == NULL for value in values]
    assert not len(codes) or codes.max() <= answers.SHADES


def test_many_values_share_a_colour() -> None:
    """A code beyond the colours that there are; the colour of a common value given to a rare one."""
    codes_of_rows = np.array([0, *np.repeat(np.arange(1, 41), np.arange(1, 41)).tolist()])
    column = Coded(codes_of_rows, [(), *((f"v{n}",) for n in range(1, 41))])
    data = answers.colours(column)
    length = int.from_bytes(data[:4], "little")
    told, codes = json.loads(data[4 : 4 + length]), list(data[4 + length :])
    assert [name for name, _ in told["names"]] == [f"v{n}" for n in range(40, 20, -1)]
    assert codes[0] == 0
    assert codes[1] == answers.OTHERS
    assert codes[-1] == 1
    assert (told["none"], told["others"]) == (1, sum(range(1, 21)))


@pytest.mark.parametrize(
    ("path", "status"),
    [("map/colours", 400), ("map/colours?facet=uri", 400), ("map/colours?score=uri", 400),
     ("map/colours?facet=label&score=blur_score", 400), ("map/colours?rating=../x", 400),
     ("map/row?row=400", 404), ("map/row?row=-1", 400),
     ("map/view?lasso=1,2", 400), ("rows?lasso=" + ",".join(["0.5"] * 2000), 400)],
)  # fmt: skip
def test_bad_questions_of_the_map(client: TestClient, path: str, status: int) -> None:
    found = client.get(f"/api/{path}")
    assert found.status_code == status
    assert "\n" not in found.json()["detail"]


def test_a_lake_without_a_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map of nothing, a lasso that holds what has no place."""
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path / "cache"))
    serve_lake.write(tmp_path / "lake", 30, labels=2)
    shutil.rmtree(tmp_path / "lake" / "map")
    app = opened(tmp_path / "lake")
    try:
        client = client_of(app, authorization=f"Bearer {TOKEN}")
        found = client.get("/api/map")
        assert (found.status_code, found.json()["detail"]) == (404, "this lake has no map yet: run `imagesieve map`")
        assert client.get("/api/lake").json()["mapped"] == 0
        assert client.get("/api/rows?lasso=0,0,1,0,1,1,0,1").json()["total"] == 0
    finally:
        app.close()


def test_an_album(lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner's pictures that somebody without the token is told, an answer that is no JSON, a status that says that a
    question nobody can answer was a fault of ours."""
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "lake"
    shutil.copytree(lake, copy)
    table = live_albums.new_table(copy)
    ids = np.arange(30, dtype=np.int64)
    uris = [f"/in/{EVIL}/{n}.jpg".encode() for n in range(30)]
    pack = Pictures(live_albums.facts_of(ids, uris), uris, live_albums.vectors(30, 0)).compared()
    writer = files.Writer(table, 1)
    live_albums.commit(table, [*writer.add(key_of(EVIL), EVIL, 1, 0, models.DEFAULT, pack), *writer.close()])
    app = opened(copy)
    try:
        assert client_of(app).get("/api/album", params={"owner": EVIL}).status_code == 401
        client = client_of(app, authorization=f"Bearer {TOKEN}", **{"x-imagesieve": "1"})
        found = client.get("/api/album", params={"owner": EVIL, "level": "high", "burst": "4"})
        told = found.json()
        assert found.headers["content-type"].startswith("application/json")
        assert (told["pictures"], told["bursts"], len(told["rows"])) == (30, 30, 30)
        assert told["groups"] == len({row["group"] for row in told["rows"]}) == sum(r["best"] for r in told["rows"])
        assert client.get("/api/album", params={"owner": EVIL, "burst": "5"}).json()["bursts"] == 1
        questions: list[tuple[dict[str, str], int]] = [
            ({"owner": "nobody"}, 404), ({}, 400), ({"owner": EVIL, "level": "so"}, 400),
            ({"owner": EVIL, "by": "taste"}, 404), ({"owner": EVIL, "burst": "nan"}, 400),
        ]  # fmt: skip
        for query, status in questions:
            answer = client.get("/api/album", params=query)
            assert answer.status_code == status, query
            assert "\n" not in answer.json()["detail"]
    finally:
        app.close()
