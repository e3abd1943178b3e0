"""Guard: who may ask the app. A request needs the token, the right Host, and no other page behind it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-imagesieve"  # that other pages cannot send without being asked
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors "
)
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
_EMBEDDED = "/embedded/"  # with its token, the path under which the app is for pages that frame it
_ORIGIN = re.compile(r"https?://[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Embedding:
    """Which pages may show the app inside them: their origins, and a token that the app's address there holds.

    Where a page of another site frames it, browsers keep cookies away. So all its addresses lie below a path that
    holds the token, which nobody else knows and no other request may use."""

    token: str
    origins: tuple[str, ...]

    @property
    def path(self) -> str:
        return f"{_EMBEDDED}{self.token}/"


def origins(given: Iterable[str]) -> tuple[str, ...]:
    """Origins of pages, such as http://localhost:8888. Raises ValueError."""
    found = tuple(dict.fromkeys(each.lower().rstrip("/") for each in given))
    for each in found:
        if not _ORIGIN.fullmatch(each):
            raise ValueError(f"must be the origin of a page, such as http://localhost:8888, got {each[:100]!r}")
    return found


class Guard:
    """ASGI middleware. hosts: the values of Host that are ours, lower case. token: of the address that was printed.

    Another Host is how a page of another name that was bound to our address is told (DNS rebinding); another Origin how
    one that only sends requests is. The token goes from the address into a cookie of this port, out of the history."""

    def __init__(
        self,
        app: ASGIApp,
        hosts: frozenset[str],
        token: str,
        port: int,
        secure: bool,
        embedding: Embedding | None = None,
    ) -> None:
        self._embedding = embedding
        self._app, self._hosts, self._token = app, hosts, token
        self._cookie, self._secure = f"imagesieve-{port}", secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a web socket: there is none
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        policy, embedding = _POLICY + "'none'", self._embedding
        if embedding is not None and scope["path"].startswith(_EMBEDDED):
            answer, scope = self._embedded(scope, headers, embedding)
            policy = _POLICY + " ".join(embedding.origins)
        else:
            answer = self._refusal(scope, headers)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Who is refused keeps no connection: others may need it.
                more = [(b"connection", b"close")] if message["status"] >= 400 and answer is not None else []
                more.append((b"content-security-policy", policy.encode()))
                message["headers"] = [*message.get("headers", ()), *_HEADERS, *more]
            await send(message)

        await (answer or self._app)(scope, receive, guarded)

    def _embedded(self, scope: Scope, headers: dict[str, str], embedding: Embedding) -> tuple[Response | None, Scope]:
        """What is answered in place of the app, or None; and the request as the app knows it."""
        given, slash, rest = scope["path"].removeprefix(_EMBEDDED).partition("/")
        inside = {**scope, "path": "/" + rest, "raw_path": ("/" + rest).encode()}
        if (refusal := self._foreign(inside, headers)) is not None:
            return refusal, inside
        if not slash or not secrets.compare_digest(given.encode(), embedding.token.encode()):
            return PlainTextResponse("wrong token", 401), inside
        return self._unmarked(inside, headers), inside

    def _foreign(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        """The refusal of a request that another page, or a page of another name, has made."""
        host = headers.get("host", "").lower()
        if host not in self._hosts:
            return PlainTextResponse("wrong host", 403)
        own = f"{'https' if self._secure else 'http'}://{host}"
        is_foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and scope["path"] != "/"
        if is_foreign or headers.get("origin", own).lower() != own:
            return PlainTextResponse("another page may not ask", 403)
        return None

    def _unmarked(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        if scope["method"] not in ("GET", "HEAD") and HEADER not in headers:
            return PlainTextResponse(f"the header {HEADER} is missing", 403)
        return None

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        """What is answered in place of the app, or None."""
        if (refusal := self._foreign(scope, headers)) is not None:
            return refusal
        if scope["path"] == "/" and scope["method"] == "GET":
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            given = [value for name, value in query if name == "token"]
            if given:
                return self._entered(given[0], [(name, value) for name, value in query if name != "token"])
        if not self._is_known(headers):
            return PlainTextResponse("open the address that `imagesieve serve` has printed", 401)
        return self._unmarked(scope, headers)

    def _entered(self, given: str, rest: list[tuple[str, str]]) -> Response:
        if not secrets.compare_digest(given.encode(), self._token.encode()):
            return PlainTextResponse("wrong token", 401)
        answer = RedirectResponse("/" + ("?" + urlencode(rest) if rest else ""), 303)
        answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", secure=self._secure)
        return answer

    def _is_known(self, headers: dict[str, str]) -> bool:
        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load(headers.get("cookie", ""))
        except CookieError:
            return False
        given = jar[self._cookie].value if self._cookie in jar else ""
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        own = self._token.encode()
        return any(secrets.compare_digest(one.encode(), own) for one in (given, bearer))
