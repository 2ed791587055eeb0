"""A hub on this machine for the real client: it lists, redirects to a second server, resumes, and can misbehave.

What it answers follows the hub's public API: a listing with sizes and hashes, `resolve` addresses that redirect
large files to another host, ETag, Range.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"
_CHUNK = 4096


@dataclass
class Fault:
    """What goes wrong with one request for a file; the next request has the next fault, or none."""

    status: int = 0  # answer this instead
    headers: dict[str, str] = field(default_factory=dict)
    cut: float = 1.0  # send this part of what was asked for, then hang up
    corrupt: bool = False
    ignore_range: bool = False
    seconds: float = 0.0  # spread the answer over this time


@dataclass
class Seen:
    """One request."""

    method: str
    path: str
    range: str
    token: str
    is_cdn: bool


class LocalHub:
    """`files[repo][path]` is served; `faults[path]` are used up one a request for the bytes of that file."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.listing_fault: Fault | None = None
        self.false_paths: list[str] = []  # listed, but nobody should ask for them
        self.seen: list[Seen] = []
        self.url = self.cdn_url = ""

    def add_folder(self, repo: str, folder: Path) -> None:
        """Serve every file below a folder."""
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        self.files[repo] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    def fetches(self, path: str) -> list[Seen]:
        """Requests for the bytes of a file, redirects not counted."""
        return [seen for seen in self.seen if seen.path.endswith("/" + path) and (seen.is_cdn or not is_large(path))]

    def listing(self, repo: str) -> dict[str, Any]:
        siblings = [sibling(path, content) for path, content in self.files[repo].items()]
        siblings += [sibling(path, b"evil") for path in self.false_paths]
        return {"id": repo, "modelId": repo, "sha": REVISION, "siblings": siblings, "tags": [], "downloads": 0}


def is_large(path: str) -> bool:
    """Whether the hub keeps such a file outside git, behind a redirect."""
    return path.endswith((".safetensors", ".bin", ".pth"))


def sibling(path: str, content: bytes) -> dict[str, Any]:
    """One file of a listing."""
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": git}
    if is_large(path):
        entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


@contextmanager
def run_hub() -> Iterator[LocalHub]:
    """A hub that answers until the context ends."""
    hub = LocalHub()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub, is_cdn=is_cdn)) for is_cdn in (False, True)]
    hub.url, hub.cdn_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


def _handler(hub: LocalHub, *, is_cdn: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._route()

        def do_GET(self) -> None:
            self._route()

        def _route(self) -> None:
            path = unquote(urlsplit(self.path).path)
            token = self.headers.get("Authorization", "")
            hub.seen.append(Seen(self.command, path, self.headers.get("Range", ""), token, is_cdn))
            parts = path.strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                self._listing("/".join(parts[2:4]))
            elif is_cdn:
                self._file("/".join(parts[:2]), "/".join(parts[2:]))
            elif len(parts) > 4 and parts[2] == "resolve":
                self._resolve("/".join(parts[:2]), "/".join(parts[4:]))
            else:
                self._answer(404)

        def _listing(self, repo: str) -> None:
            if hub.listing_fault is not None:
                self._answer(hub.listing_fault.status, headers=hub.listing_fault.headers)
            elif repo not in hub.files:
                self._answer(404, headers={"X-Error-Code": "RepoNotFound"})
            else:
                self._answer(200, json.dumps(hub.listing(repo)).encode())

        def _resolve(self, repo: str, path: str) -> None:
            content = hub.files.get(repo, {}).get(path)
            if content is None:
                self._answer(404, headers={"X-Error-Code": "EntryNotFound"})
            elif is_large(path):
                entry = sibling(path, content)
                headers = {
                    "Location": f"{hub.cdn_url}/{repo}/{path}",
                    "X-Repo-Commit": REVISION,
                    "X-Linked-Etag": f'"{entry["lfs"]["sha256"]}"',
                    "X-Linked-Size": str(len(content)),
                }
                self._answer(302, headers=headers)
            else:
                self._file(repo, path)

        def _file(self, repo: str, path: str) -> None:
            content, faults = hub.files[repo][path], hub.faults.get(path, [])
            fault = faults.pop(0) if faults else Fault()
            if fault.status:
                self._answer(fault.status, headers=fault.headers)
                return
            asked = self.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
            start = int(asked) if asked and not fault.ignore_range else 0
            if start >= len(content) > 0:
                self._answer(416)
                return
            body = bytearray(content[start:])
            if fault.corrupt:
                body[len(body) // 2] ^= 1
            headers = {"ETag": f'"{sibling(path, content)["blobId"]}"', "X-Repo-Commit": REVISION}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._answer(206 if start else 200, bytes(body), headers=headers, fault=fault)

        def _answer(
            self, status: int, body: bytes = b"", *, headers: dict[str, str] | None = None, fault: Fault | None = None
        ) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            fault = fault or Fault()
            end = int(len(body) * fault.cut)
            pieces = [body[at : min(at + _CHUNK, end)] for at in range(0, end, _CHUNK)]
            try:
                for piece in pieces:
                    self.wfile.write(piece)
                    time.sleep(fault.seconds / len(pieces))
                self.wfile.flush()
            except OSError:
                return
            if end < len(body):
                self.close_connection = True

    return Handler
