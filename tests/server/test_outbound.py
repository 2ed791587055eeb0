"""What a server calls itself: case 18, and webhooks, against a small server that stands for the world outside."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from homereel.core.errors import InvalidRequest
from homereel.jobs.store import JobStore
from homereel.server.outbound import Outbound, Unreachable, is_public
from homereel.server.webhooks import CURSOR_FILE, SECRET_FILE, Webhooks
from tests.server.conftest import Serve, error_of, png
from tests.server.running import wait_for


class World(ThreadingHTTPServer):
    """Remembers what it was sent; answers as it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: World

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        status, headers, content = self.server.answers.pop(0) if self.server.answers else (200, {}, b"")
        self.send_response(status)
        for name, value in {"content-length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _any

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is said."""


@pytest.fixture
def world() -> Iterator[World]:
    with World() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


INNER = [
    *("http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/"),
    *("http://localhost/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://0.0.0.0/", "http://[::]/"),
    *("http://169.254.169.254/latest", "http://10.1.2.3/", "http://192.168.0.1/", "http://172.16.0.1/"),
    *("http://100.64.0.1/", "http://[fe80::1]/", "http://[fd00::1]/", "http://224.0.0.1/", "http://255.255.255.255/"),
    *("http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/"),
]


@pytest.mark.parametrize("url", INNER)
def test_case_18_addresses_within_are_not_called(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_call(*_: object, **__: object) -> None:
        raise AssertionError("it was called")

    monkeypatch.setattr(socket, "create_connection", no_call)
    with pytest.raises((InvalidRequest, Unreachable)):  # a name that is no number on this system is not known
        Outbound().get(url, field="image", take=lambda _: None)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://x",
        "//example.com",
        "http://",
        "http://u:p@example.com/",
        "http://example.com:0/",
        "http://exa mple.com/",
        "http://example.com/\r\nX: y",
        "http://exämple.com/",
        "x" * 3000,
    ],
)
def test_case_18_what_is_no_plain_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="address"):
        Outbound(allow_private=True).check(url, field="image")


def test_case_18_a_public_name_that_leads_within_is_not_called(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    port = world.server_address[1]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port)) for number in ("93.184.215.14", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(InvalidRequest, match="private network"):
        Outbound().get(f"http://rebinding.example:{port}/", field="image", take=lambda _: None)
    assert world.asked == []


def test_case_18_redirects_are_not_followed(world: World) -> None:
    world.answers.append((302, {"location": f"{world.url}/secret"}, b""))
    with pytest.raises(Unreachable, match="redirects are not followed"):
        Outbound(allow_private=True).get(f"{world.url}/a", field="image", take=lambda _: None)
    assert [path for path, _, _ in world.asked] == ["/a"]


def test_only_what_is_on_the_open_internet_is_public() -> None:
    assert is_public(ip_address("93.184.215.14"))
    assert is_public(ip_address("2606:2800:21f:cb07:6820:80da:af6b:8b2c"))
    assert not is_public(ip_address("::ffff:10.0.0.1"))
    assert not is_public(ip_address("2001:0:7f00:1::80ff:fffe"))


def test_a_picture_is_fetched_only_if_that_is_allowed(serve: Serve, world: World) -> None:
    wish = {"prompt": "a red ball", "model": "tiny-image", "input_reference": {"image_url": f"{world.url}/a.png"}}
    answer = serve().post("/v1/videos", json=wish)
    assert "--allow-urls" in error_of(answer)["message"]
    within = serve(allow_urls=True).post("/v1/videos", json=wish)
    assert "private network" in error_of(within)["message"]
    assert world.asked == []
    client = serve(allow_urls=True, allow_private=True)
    world.answers = [(200, {}, png()), (404, {}, b""), (200, {}, b"<html>")]
    assert client.post("/v1/videos", json=wish).status_code == 200
    assert error_of(client.post("/v1/videos", json=wish))["code"] == "unreachable"
    assert error_of(client.post("/v1/videos", json=wish))["code"] == "invalid_input"


@pytest.fixture
def hooks(data: Path, world: World) -> Iterator[Callable[[], Webhooks]]:
    """Starts the thread that delivers, as a server does; all are stopped at the end."""
    started: list[Webhooks] = []
    with JobStore.in_folder(data) as store:

        def start() -> Webhooks:
            outbound = Outbound(allow_private=True)
            made = Webhooks(store, data=data, outbound=outbound, pauses=(0.0,), look_seconds=0.01)
            made.start()
            started.append(made)
            return made

        yield start
        for each in started:
            each.stop()


def ended(store: JobStore, url: str) -> str:
    """The id of a job with a webhook that has just ended."""
    job = store.submit({"prompt": "a red ball"}, extra={"webhook": url})
    store.cancel(job.id)
    return job.id


def test_a_webhook_is_signed_and_tells_how_a_job_ended(hooks: Callable[[], Webhooks], data: Path, world: World) -> None:
    hooks()
    with JobStore.in_folder(data) as store:
        wait_for((data / CURSOR_FILE).exists)
        job = ended(store, f"{world.url}/hook?x=1")
        wait_for(lambda: world.asked)
    path, headers, body = world.asked[0]
    assert path == "/hook?x=1"
    told = json.loads(body)
    assert (told["type"], told["data"]) == ("video.failed", {"id": job, "status": "cancelled"})
    secret = (data / SECRET_FILE).read_text().strip().encode()
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{mac}"
    assert (data / SECRET_FILE).stat().st_mode & 0o077 == 0


def test_a_webhook_is_tried_again_then_given_up_and_not_lost_by_a_restart(
    hooks: Callable[[], Webhooks], data: Path, world: World
) -> None:
    first = hooks()
    with JobStore.in_folder(data) as store:
        wait_for((data / CURSOR_FILE).exists)
        world.answers = [(500, {}, b""), (500, {}, b"")]
        lost = ended(store, world.url)
        wait_for(lambda: len(world.asked) == 2)
        kept = ended(store, world.url)
        wait_for(lambda: len(world.asked) == 3)
        first.stop()
        missed = ended(store, world.url)
        hooks()
        wait_for(lambda: len(world.asked) == 4)
    assert [json.loads(body)["data"]["id"] for _, _, body in world.asked] == [lost, lost, kept, missed]


def test_a_webhook_must_be_allowed_and_an_address(serve: Serve) -> None:
    client = serve(allow_webhooks=True)
    for hook, words in (("nonsense", "https://host/path"), (7, "https://host/path"), ("http://a:b@c.de/", "password")):
        answer = client.post("/api/v1/jobs", json={"prompt": "a red ball", "model": "tiny", "webhook": hook})
        assert words in error_of(answer)["message"]
    job = client.post("/api/v1/jobs", json={"prompt": "a ball", "model": "tiny", "webhook": "https://example.com/x"})
    assert job.json()["webhook"] == "https://example.com/x"
