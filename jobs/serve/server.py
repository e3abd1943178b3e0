"""Server: the routes of the app over HTTP; docs/serve.md lists them."""

from __future__ import annotations

import dataclasses
import functools
import json
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from jobs.serve import told
from jobs.serve.albums.answers import album
from jobs.serve.batches import DecisionError
from jobs.serve.columns import Rows
from jobs.serve.filters import FACETS, Filter, FilterError
from jobs.serve.lake_app import App, NotReadyError, Open
from jobs.serve.maps import answers, colouring
from jobs.serve.rules import accepting, agreement
from jobs.serve.rules.accepting import ACCEPTED
from jobs.serve.rules.safe_folders import note_of, safe
from jobs.serve.variants import answers as variants
from jobs.serve.web.timing import Timed
from jobs.tables import KEEP

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


def application(app: App, more: Sequence[Route] = ()) -> ASGIApp:
    """The routes of one lake, and more; jobs.serve.web.guard stands before them."""
    routes = [
        *more,
        Route("/", lambda request: FileResponse(STATIC / "index.html", headers=_FRESH)),
        *(Route(f"/{name}", functools.partial(_file, name)) for name in FILES),
        *(Route(f"/api/{path}", _answering(app, answer)) for path, answer in GETS.items()),
        Route("/api/thumb/{id:int}", _answering(app, _thumb, _kept_thumb)),
        Route("/api/picture/{id:int}", _answering(app, _large)),
        Route("/api/picture", _uploading(app), methods=["POST"]),
        Route("/api/decide", _posting(app, _decide), methods=["POST"]),
        Route("/api/accept", _posting(app, _accept), methods=["POST"]),
        Route("/api/keep-folder", _posting(app, _keep_folder), methods=["POST"]),
        Route("/api/undo", _posting(app, _undo), methods=["POST"]),
    ]
    return Timed(Starlette(routes=routes))


async def _file(name: str, request: Request) -> Response:
    return FileResponse(STATIC / name, headers={"cache-control": "no-cache"})


def _answering(
    app: App, answer: Answer, at_once: Callable[[App, Request], Response | None] = lambda app, request: None
) -> Callable[[Request], Any]:
    """answer: gets a thread, as it may wait. at_once: what needs none, tried first."""

    async def endpoint(request: Request) -> Response:
        found = at_once(app, request)
        return await run_in_threadpool(_explained, answer, app, request) if found is None else found

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
    """The neighbours in a view of what stands at a position, or of a picture."""
    now, view = app.open, _view(request)
    position = _whole(request, "position", 0, 1 << 40)
    if "id" in request.query_params:
        found = now.views.place(view, _row_of_id(app, _whole(request, "id", 0, (1 << 63) - 1)))
        if found is None:
            raise RequestError("the view does not hold this image", 404)
        position = found
    first = max(0, position - 1)
    ids = now.columns.id[now.views.rows(view, first, position + 2 - first)].tolist()
    before, here, after = ([None, *ids] if position == 0 else ids) + [None] * (3 - len(ids) - (position == 0))
    total = now.views.total(view)
    return {"position": position, "total": total, "previous": before, "id": here, "next": after}


def _image(app: App, request: Request) -> Any:
    def image() -> Any:
        now = app.open
        return told.image(now.tables, now.columns, now.decisions, _row_of(app, request))

    try:
        return image()
    except FileNotFoundError:  # the tables have changed, and were vacuumed
        app.refresh()
        return image()


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
        "recent": [told.step(*each) for each in now.decisions.recent(RECENT)],
        "folders": [{**each, "at": told.time(each["at"])} for each in safe(now.views.folders, now.decisions)],
    }


def _folders(app: App, request: Request) -> Any:
    level = app.open.views.level(_view(request), request.query_params.get("q", ""))
    return {**dataclasses.asdict(level), "root": app.open.views.folders.root}


def _states(app: App, request: Request) -> Any:
    app.refresh()
    now = app.open.states
    shown = now.shown
    states = [{"run": state.run_id, "ended_at": told.time(state.ended_at), "shown": state.run_id == shown,
               "there": state.version is not None} for state in now.known().values()]  # fmt: skip
    return {"states": states, "unknown": app.arrivals}


def _changes(app: App, request: Request) -> Any:
    """What came and went; since and until are runs, and until may be left out."""
    since, until = (request.query_params.get(name, "") for name in ("since", "until"))
    if not since:
        raise RequestError("since: the run to compare with")
    return {"issues": app.open.states.compared(since, until)}


def _map(app: App, request: Request) -> Response:
    if not app.open.columns.mapped:
        raise RequestError("this lake has no map yet: run `imagesieve map`", 404)
    return _bytes(answers.positions(app.open.columns))


def _map_colours(app: App, request: Request) -> Response:
    now, asked = app.open, colouring.asked(request.query_params)
    return _bytes(colouring.colours(*asked, now.columns, now.decisions.column(), now.tables))


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


def _kept_thumb(app: App, request: Request) -> Response | None:
    try:
        data = app.pictures.kept(app.open.columns.reference(_row_of(app, request)))
    except (NotReadyError, RequestError):
        return None  # the thread says so
    return None if data is None else _picture(data)


def _large(app: App, request: Request) -> Response:
    return _picture(app.pictures.large(app.open.columns.reference(_row_of(app, request))))


def _picture(data: bytes | None) -> Response:
    if data is None:
        return PlainTextResponse("no picture", 404, headers=_FRESH)
    return Response(data, headers=_KEPT, media_type="image/jpeg")


def _chosen(now: Open, asked: dict[str, Any]) -> Rows:
    """The rows of what is asked for by ids or by a view; of ids those that are there. Raises RequestError."""
    ids, view = asked.get("ids"), asked.get("view")
    if isinstance(view, str) and ids is None:
        return now.views.order(Filter.of_query(view))
    if isinstance(ids, list) and ids and all(type(i) is int and 0 <= i < 1 << 63 for i in ids) and view is None:
        rows = now.columns.rows_of_ids(np.unique(np.array(ids, np.int64)))
        return rows[rows >= 0]
    raise RequestError("ids: a list of numbers, or view: the query of a view")


def _decide(app: App, asked: dict[str, Any]) -> Any:
    now = app.open
    chosen = now.columns.id[_chosen(now, asked)]
    texts = {name: asked.get(name) for name in ("decision", "label", "note", "batch")}
    if not all(value is None or isinstance(value, str) for value in texts.values()):
        raise RequestError("decision, label, note, batch: texts")
    batch = now.decisions.decide(
        chosen, texts["decision"] or "", app.user, texts["label"], texts["note"], (texts["batch"] or "")[:64],
        by_rule="view" in asked,
    )  # fmt: skip
    return {"batch": batch.batch_id, "count": len(batch.ids)}


def _accept(app: App, asked: dict[str, Any]) -> Any:
    """Decides as is suggested; with count_only it only says what that would be."""
    now = app.open
    only = asked.get("only", list(ACCEPTED))
    if not isinstance(only, list) or not only or any(name not in ACCEPTED for name in only):
        raise RequestError(f"only: a list of {', '.join(ACCEPTED)}")
    plan = accepting.plan(now.columns, now.decisions, _chosen(now, asked), tuple(only))
    batches = (
        [] if asked.get("count_only") else now.decisions.decide_all(plan.decisions(), app.user, by_rule="view" in asked)
    )
    return {"batch": batches[0].batch_id if batches else None, **plan.counts()}


def _keep_folder(app: App, asked: dict[str, Any]) -> Any:
    """Keeps every undecided picture under a folder; with count_only it only says how many these are."""
    now, folder = app.open, asked.get("folder")
    if not isinstance(folder, str):
        raise RequestError("folder: a text")
    note = note_of(folder)
    rows = np.flatnonzero(now.views.folders.holding(folder) & (now.decisions.column().codes == 0))
    if asked.get("count_only"):
        return {"batch": None, "count": len(rows)}
    batch = now.decisions.decide(now.columns.id[rows], KEEP, app.user, note=note, by_rule=True)
    return {"batch": batch.batch_id, "count": len(batch.ids)}


def _undo(app: App, asked: dict[str, Any]) -> Any:
    name = asked.get("batch", "")
    if not isinstance(name, str):
        raise RequestError("batch: a text")
    try:
        return {"count": sum(len(batch.ids) for batch in app.open.decisions.undo(app.user, name))}
    except DecisionError as error:
        raise RequestError(str(error), 404) from error


def _given_picture(app: App, data: bytes) -> Any:
    return {"key": app.open.searches.put(data)}


def _view(request: Request) -> Filter:
    return Filter.of(request.query_params.multi_items())


def _row_of(app: App, request: Request) -> int:
    return _row_of_id(app, request.path_params["id"])


def _row_of_id(app: App, image_id: int) -> int:
    row = app.open.columns.rows_of([image_id]).get(image_id)
    if row is None:
        raise RequestError("no such image", 404)
    return row


def _whole(request: Request, name: str, default: int, most: int) -> int:
    given = request.query_params.get(name, str(default))
    if not given.isascii() or not given.isdigit() or len(given) > 19 or int(given) > most:
        raise RequestError(f"{name}: must be a whole number from 0 to {most}")
    return int(given)


GETS: dict[str, Answer] = {
    "lake": _lake, "rows": _rows, "facets": _facets, "facet": _facet, "step": _step, "image/{id:int}": _image,
    "clusters": _clusters, "confusions": _confusions, "reviews": _reviews, "folders": _folders, "states": _states,
    "changes": _changes, "map": _map, "map/colours": _map_colours, "map/view": _map_view, "map/row": _map_row,
    "variant/{id:int}": lambda app, asked: variants.answer(app, _row_of(app, asked), asked),
    "album": lambda app, request: _json(*album(app.albums, request.query_params)),
}  # fmt: skip
