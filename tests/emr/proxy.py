"""A proxy before moto, for what moto does not do: refusals, other regions, throttling, late answers and lost ones."""

import http.client
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PASSED_ON = ("host", "content-length", "transfer-encoding", "connection", "expect")


@dataclass
class Request:
    """action: the API's name of what is asked, such as RunJobFlow; "" for S3 and EMR Serverless."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def action(self) -> str:
        target = self.headers.get("x-amz-target", "")
        if target:
            return target.rpartition(".")[2]
        form = urllib.parse.parse_qs(self.body.decode("utf-8", "replace"))
        return form.get("Action", [""])[0]


@dataclass
class Response:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


# Gives an answer in place of moto's, or None; it may wait, and change the request.
Rule = Callable[[Request], Response | None]
Change = Callable[[Request, Response], None]


@dataclass
class Proxy:
    """rules: asked in turn. changes: made to every answer. lost: actions that moto answers, and the proxy does not."""

    endpoint: str
    rules: list[Rule] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)

    def refuse(self, action: str, status: int, code: str, message: str = "no", times: int = 10**9) -> None:
        """Answers an action with an error, in the form of its protocol."""
        left = [times]

        def rule(request: Request) -> Response | None:
            if request.action != action or left[0] <= 0:
                return None
            left[0] -= 1
            if request.headers.get("x-amz-target"):
                body = f'{{"__type": "{code}", "message": "{message}"}}'.encode()
                return Response(status, body, {"Content-Type": "application/x-amz-json-1.1"})
            text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
                # EC2 wraps it in other names than the others do.
                text = f"<Response><Errors>{text}</Errors>{text}<RequestID>1</RequestID></Response>"
            return Response(status, text.encode(), {"Content-Type": "text/xml"})

        self.rules.append(rule)


@contextmanager
def serve(upstream: str) -> Iterator[Proxy]:
    """upstream: http://host:port of moto."""
    host = urllib.parse.urlsplit(upstream).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, self.rfile.read(length))
            proxy.seen.append(request.action or f"{request.method} {request.path}")
            response = next((told for rule in proxy.rules if (told := rule(request)) is not None), None)
            if response is None:
                response = forwarded(request)
            for change in proxy.changes:
                change(request, response)
            if request.action in proxy.lost:
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            size = response.headers.get("Content-Length") if self.command == "HEAD" else None
            if size is None:
                self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(response.body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    def forwarded(request: Request) -> Response:
        connection = http.client.HTTPConnection(host, timeout=30)
        kept = {name: value for name, value in request.headers.items() if name not in PASSED_ON}
        connection.request(request.method, request.path, request.body, kept)
        answer = connection.getresponse()
        body = answer.read()
        hidden = ("connection", "transfer-encoding", "date", "server")
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in hidden}
        if request.method != "HEAD":
            headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        connection.close()
        return Response(answer.status, body, headers)

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that has gone, or an answer that is lost by intent, is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
