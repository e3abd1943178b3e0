"""Server: the routes of the app over HTTP; docs/serve.md lists them."""

from __future__ import annotations

import functools
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from jobs.serve import agreement, told
from jobs.serve.decisions import DecisionError
from jobs.serve.filters import DECISION, FACETS, Filter, FilterError
from jobs.serve.lake_app import App, NotReadyError
from jobs.serve.maps import answers

STATIC = Path(__file__).parent / "static"
FILES = ("app.js", "app.css", "preact-LICENSE.txt")
MOST_ROWS, MOST_CLUSTERS, SHOWN_MEMBERS = 500, 100, 12
MOST_JSON = 16 << 20  # bytes of a decision
MOST_PICTURE = 64 << 20  # bytes of a picture to search by
RECENT = 30
_KEPT = {"cache-control": "private, max-age=3600"}
_FRESH = {"cache-control": "no-store"}


class RequestError(ValueError):
    """A request that cannot be understood; one line. status: of HTTP."""

    def __init__(self, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.status = status


Answer = Callable[[App, Request], Any]


def application(app: App) -> Starlette:
    """The routes of one lake; jobs.serve.guard stands before them."""
    routes = [
        Route("/", lambda request: FileResponse(STATIC / "index.html", headers=_FRESH)),
        *(Route(f"/{name}", functools.partial(_file, name)) for name in FILES),
        *(Route(f"/api/{path}", _answering(app, answer)) for path, answer in GETS.items()),
        Route("/api/thumb/{id:int}", _answering(app, _thumb)),
        Route("/api/picture/{id:int}", _answering(app, _large)),
        Route("/api/picture", _uploading(app), methods=["POST"]),
        Route("/api/decide", _posting(app, _decide), methods=["POST"]),
        Route("/api/undo", _posting(app, _undo), methods=["POST"]),
    ]
    return Starlette(routes=routes)


async def _file(name: str, request: Request) -> Response:
    return FileResponse(STATIC / name, headers={"cache-control": "no-cache"})


def _answering(app: App, answer: Answer) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(_explained, answer, app, request)

    return endpoint


def _uploading(app: App) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        data = await _body(request, MOST_PICTURE)
        if data is None:
            return _json({"detail": f"at most {MOST_PICTURE} bytes"}, 413)
        return await run_in_threadpool(_explained, _given_picture, app, data)

    return endpoint


async def _body(request: Request, most: int) -> bytes | None:
    """None where it is longer."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > most:
            return None
    return bytes(data)


def _posting(app: App, answer: Callable[[App, Any], Any]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        if app.read_only:
            return _json({"detail": "this app was started with --read-only"}, 403)
        data = await _body(request, MOST_JSON)
        if data is None:
            return _json({"detail": f"at most {MOST_JSON} bytes"}, 413)
        try:
            asked = json.loads(data or b"{}")
            if not isinstance(asked, dict):
                raise RequestError("the body must be a JSON object")
        except ValueError as error:
            return _json({"detail": f"the body is no JSON: {error}"}, 400)
        return await run_in_threadpool(_explained, answer, app, asked)

    return endpoint


def _explained(answer: Callable[[App, Any], Any], app: App, given: Any) -> Response:
    try:
        found = answer(app, given)
    except NotReadyError as error:
        return _json({"detail": str(error)}, 503)
    except RequestError as error:
        return _json({"detail": str(error)}, error.status)
    except (FilterError, DecisionError) as error:
        return _json({"detail": str(error)}, 400)
    except Exception:  # a fault of ours: told to who looks at the server, and no end of it
        traceback.print_exc()
        return _json({"detail": "a fault of imagesieve; the server's own output says more"}, 500)
    return found if isinstance(found, Response) else _json(found)


def _json(value: Any, status: int = 200) -> Response:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A name of a file may hold bytes that are no text.
    data = text.encode("utf-8", "replace")
    return Response(data, status, headers=_FRESH, media_type="application/json")


def _lake(app: App, request: Request) -> Any:
    return app.facts()


def _rows(app: App, request: Request) -> Any:
    now, view = app.open, _view(request)
    offset = _whole(request, "offset", 0, 1 << 40)
    found = now.views.rows(view, offset, _whole(request, "limit", 200, MOST_ROWS))
    alike = now.views.similarities(view)
    rows = [
        told.row(now.columns, now.decisions, n, now.columns.score(view.by_score, n) if view.by_score else alike.get(n))
        for n in found.tolist()
    ]
    return {"total": now.views.total(view), "offset": offset, "rows": rows}


def _facets(app: App, request: Request) -> Any:
    view = _view(request)
    return {"total": app.open.views.total(view), "facets": app.open.views.facets(view)}


def _facet(app: App, request: Request) -> Any:
    name, part = request.query_params.get("name", ""), request.query_params.get("q", "")
    if name not in FACETS:
        raise RequestError(f"name: must be one of {', '.join(FACETS)}")
    return {"values": app.open.views.facet(_view(request), name, part)}


def _step(app: App, request: Request) -> Any:
    now, view = app.open, _view(request)
    position = _whole(request, "position", 0, 1 << 40)
    first = max(0, position - 1)
    ids = now.columns.id[now.views.rows(view, first, position + 2 - first)].tolist()
    before, here, after = ([None, *ids] if position == 0 else ids) + [None] * (3 - len(ids) - (position == 0))
    total = now.views.total(view)
    return {"position": position, "total": total, "previous": before, "id": here, "next": after}


def _image(app: App, request: Request) -> Any:
    now = app.open
    return told.image(app.uri, now.at, now.columns, now.decisions, _row_of(app, request))


def _clusters(app: App, request: Request) -> Any:
    now, view = app.open, _view(request)
    offset, limit = _whole(request, "offset", 0, 1 << 40), _whole(request, "limit", 50, MOST_CLUSTERS)
    total, found = now.views.clusters(view, offset, limit)
    clusters = []
    for cluster in found:
        members = now.columns.members(cluster)
        rows = [told.row(now.columns, now.decisions, n) for n in members[:SHOWN_MEMBERS].tolist()]
        kind = "".join(now.columns.coded("kind").of(int(members[0])))
        clusters.append({"cluster": cluster, "size": len(members), "kind": kind, "members": rows})
    return {"total": total, "clusters": clusters}


def _confusions(app: App, request: Request) -> Any:
    names = ("label", "suggested", "images", "decided")
    return {"pairs": [dict(zip(names, pair, strict=True)) for pair in app.open.views.confusions()]}


def _reviews(app: App, request: Request) -> Any:
    app.refresh()
    now = app.open
    return {
        "decided": int(np.count_nonzero(now.decisions.column().codes)),
        "by": now.decisions.by_person(),
        "issues": agreement.by_issue(now.columns, now.decisions),
        "recent": [told.batch(*each) for each in now.decisions.recent(RECENT)],
    }


def _map(app: App, request: Request) -> Response:
    if not app.open.columns.mapped:
        raise RequestError("this lake has no map yet: run `imagesieve map`", 404)
    return _bytes(answers.positions(app.open.columns))


def _map_colours(app: App, request: Request) -> Response:
    name = request.query_params.get("facet", "")
    if name not in FACETS:
        raise RequestError(f"facet: must be one of {', '.join(FACETS)}")
    now = app.open
    return _bytes(answers.colours(now.decisions.column() if name == DECISION else now.columns.coded(name)))


def _map_view(app: App, request: Request) -> Response:
    now, view = app.open, _view(request).unsorted
    return _bytes(answers.holds(now.columns, None if view.is_all else now.views.unordered(view)))


def _map_row(app: App, request: Request) -> Any:
    now, number = app.open, _whole(request, "row", 0, 1 << 40)
    if number >= now.columns.images:
        raise RequestError("no such row", 404)
    return told.row(now.columns, now.decisions, number)


def _bytes(data: bytes) -> Response:
    return Response(data, headers=_FRESH, media_type="application/octet-stream")


def _thumb(app: App, request: Request) -> Response:
    return _picture(app.pictures.small(app.open.columns.reference(_row_of(app, request))))


def _large(app: App, request: Request) -> Response:
    return _picture(app.pictures.large(app.open.columns.reference(_row_of(app, request))))


def _picture(data: bytes | None) -> Response:
    if data is None:
        return PlainTextResponse("no picture", 404, headers=_FRESH)
    return Response(data, headers=_KEPT, media_type="image/jpeg")


def _decide(app: App, asked: dict[str, Any]) -> Any:
    now = app.open
    ids, view = asked.get("ids"), asked.get("view")
    if isinstance(view, str) and ids is None:
        chosen = now.columns.id[now.views.order(Filter.of_query(view))]
    elif isinstance(ids, list) and ids and all(type(i) is int and 0 <= i < 1 << 63 for i in ids) and view is None:
        chosen = np.array(ids, np.int64)
    else:
        raise RequestError("ids: a list of numbers, or view: the query of a view")
    texts = {name: asked.get(name) for name in ("decision", "label", "note", "batch")}
    if not all(value is None or isinstance(value, str) for value in texts.values()):
        raise RequestError("decision, label, note, batch: texts")
    batch = now.decisions.decide(
        chosen, texts["decision"] or "", app.user, texts["label"], texts["note"], (texts["batch"] or "")[:64]
    )
    return {"batch": batch.batch_id, "count": len(batch.ids)}


def _undo(app: App, asked: dict[str, Any]) -> Any:
    name = asked.get("batch", "")
    if not isinstance(name, str):
        raise RequestError("batch: a text")
    try:
        return {"count": len(app.open.decisions.undo(app.user, name).ids)}
    except DecisionError as error:
        raise RequestError(str(error), 404) from error


def _given_picture(app: App, data: bytes) -> Any:
    return {"key": app.open.searches.put(data)}


def _view(request: Request) -> Filter:
    return Filter.of(request.query_params.multi_items())


def _row_of(app: App, request: Request) -> int:
    image_id = request.path_params["id"]
    row = app.open.columns.rows_of([image_id]).get(image_id)
    if row is None:
        raise RequestError("no such image", 404)
    return row


def _whole(request: Request, name: str, default: int, most: int) -> int:
    given = request.query_params.get(name, str(default))
    if not given.isascii() or not given.isdigit() or not 0 <= int(given[:16]) <= most or len(given) > 15:
        raise RequestError(f"{name}: must be a whole number from 0 to {most}")
    return int(given)


GETS: dict[str, Answer] = {
    "lake": _lake, "rows": _rows, "facets": _facets, "facet": _facet, "step": _step, "image/{id:int}": _image,
    "clusters": _clusters, "confusions": _confusions, "reviews": _reviews,
    "map": _map, "map/colours": _map_colours, "map/view": _map_view, "map/row": _map_row,
}  # fmt: skip
