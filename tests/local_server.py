"""A web server on this machine that serves chosen bytes, and can fail in the ways that real ones do."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class LocalServer:
    """Serve `files` (path -> bytes) at `url`; what each request asked for is in `requests`.

    drops: for the next requests, in turn, the bytes after which the connection is cut.
    statuses: for the next requests, in turn, a status to answer with and no file.
    ranges: False for a server that does not know Range. redirects: path -> URL.
    """

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = dict(files or {})
        self.drops: list[int] = []
        self.statuses: list[int] = []
        self.ranges = True
        self.redirects: dict[str, str] = {}
        self.requests: list[tuple[str, str | None]] = []  # path, Range
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "LocalServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(server: LocalServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.requests.append((self.path, asked))
            if server.statuses:
                return self._answer(server.statuses.pop(0), {}, b"")
            if self.path in server.redirects:
                return self._answer(302, {"Location": server.redirects[self.path]}, b"")
            content = server.files.get(self.path)
            if content is None:
                return self._answer(404, {}, b"")
            match = re.fullmatch(r"bytes=(\d+)-", asked or "") if server.ranges else None
            if match is None:
                return self._answer(200, {}, content)
            start = int(match[1])
            if start >= len(content):
                return self._answer(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return self._answer(206, {"Content-Range": span}, content[start:])

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if body and server.drops:
                body = body[: server.drops.pop(0)]
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Quiet."""

    return Handler
