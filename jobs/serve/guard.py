"""Guard: who may ask the app. A request needs the token, the right Host, and no other page behind it."""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-imagesieve"  # that other pages cannot send without being asked
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", _POLICY.encode()),
]


class Guard:
    """ASGI middleware. hosts: the values of Host that are ours, lower case. token: of the address that was printed.

    Another Host is how a page of another name that was bound to our address is told (DNS rebinding); another Origin how
    one that only sends requests is. The token goes from the address into a cookie of this port, out of the history."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str, port: int, secure: bool) -> None:
        self._app, self._hosts, self._token = app, hosts, token
        self._cookie, self._secure = f"imagesieve-{port}", secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a web socket: there is none
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        answer = self._refusal(scope, headers)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Who is refused keeps no connection: others may need it.
                more = [(b"connection", b"close")] if message["status"] >= 400 and answer is not None else []
                message["headers"] = [*message.get("headers", ()), *_HEADERS, *more]
            await send(message)

        await (answer or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        """What is answered in place of the app, or None."""
        host = headers.get("host", "").lower()
        if host not in self._hosts:
            return PlainTextResponse("wrong host", 403)
        own = f"{'https' if self._secure else 'http'}://{host}"
        is_foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and scope["path"] != "/"
        if is_foreign or headers.get("origin", own).lower() != own:
            return PlainTextResponse("another page may not ask", 403)
        if scope["path"] == "/" and scope["method"] == "GET":
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            given = [value for name, value in query if name == "token"]
            if given:
                return self._entered(given[0], [(name, value) for name, value in query if name != "token"])
        if not self._is_known(headers):
            return PlainTextResponse("open the address that `imagesieve serve` has printed", 401)
        if scope["method"] not in ("GET", "HEAD") and HEADER not in headers:
            return PlainTextResponse(f"the header {HEADER} is missing", 403)
        return None

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
