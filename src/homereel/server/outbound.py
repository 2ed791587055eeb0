"""The only way in which a server calls somebody else: webhooks, and pictures named by their address. Off by default.

An address that a stranger gives may point into the network that the server stands in. So the name is looked up once,
every address that it has must be public, and the connection goes to the one that was checked. No redirect is followed.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from homereel.core.errors import HomereelError, InvalidRequest

TIMEOUT_SECONDS = 10.0
MAX_GET_SECONDS = 60.0
MAX_URL = 2_000
_PIECE_BYTES = 2**16


class Unreachable(HomereelError):
    """The other side did not answer as it should; trying later may help."""


@dataclass(frozen=True)
class Outbound:
    """`allow_private` also lets through addresses of the own machine and network."""

    allow_private: bool = False

    def check(self, url: str, *, field: str) -> SplitResult:
        """The parts of a web address that could be called, without calling or looking up anything.

        Raises InvalidRequest for anything else.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = SplitResult("", "", "", "", ""), 0
        plain = len(url) <= MAX_URL and url.isascii() and url.isprintable() and " " not in url
        if not plain or parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise InvalidRequest(f"{field}: give the address as https://host/path", field=field)
        if parts.username is not None or parts.password is not None:
            raise InvalidRequest(f"{field}: an address with a password in it is not called", field=field)
        return parts

    def get(self, url: str, *, field: str, take: Callable[[bytes], None]) -> None:
        """Hand what is there to `take`, piece by piece. Raises InvalidRequest, or Unreachable."""
        with _Call(self._address(url, field=field), "GET", headers={"accept": "image/*"}) as answer:
            until = time.monotonic() + MAX_GET_SECONDS
            while piece := answer.read1(_PIECE_BYTES):
                take(piece)
                if time.monotonic() > until:
                    raise Unreachable(f"{field}: it took longer than {MAX_GET_SECONDS:.0f} s")

    def post(self, url: str, body: bytes, *, headers: Mapping[str, str]) -> None:
        """Raises InvalidRequest for an address that is not called, Unreachable for any answer but 2xx."""
        with _Call(self._address(url, field="webhook"), "POST", body=body, headers=headers):
            pass

    def _address(self, url: str, *, field: str) -> _Address:
        parts = self.check(url, field=field)
        host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
        try:
            found = {info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        except (OSError, UnicodeError):
            raise Unreachable(f"{field}: {host} is not known") from None
        addresses = [ipaddress.ip_address(str(text).partition("%")[0]) for text in found]
        if not self.allow_private and not all(is_public(address) for address in addresses):
            raise InvalidRequest(
                f"{field}: {host} is in a private network, which is not called; --allow-private permits it", field=field
            )
        target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        return _Address(parts.scheme, host, str(addresses[0]), port, target)


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address belongs to somebody on the open internet, also behind IPv6's ways to carry IPv4."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


@dataclass(frozen=True)
class _Address:
    scheme: str
    host: str
    number: str
    port: int
    target: str


class _Call:
    """One exchange; the context is the answer's body."""

    def __init__(
        self, address: _Address, method: str, *, headers: Mapping[str, str], body: bytes | None = None
    ) -> None:
        self._address, self._method, self._headers, self._body = address, method, headers, body
        self._connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_SECONDS)

    def __enter__(self) -> http.client.HTTPResponse:
        where, connection = self._address, self._connection
        try:
            connection.sock = socket.create_connection((where.number, where.port), timeout=TIMEOUT_SECONDS)
            if where.scheme == "https":
                safe = ssl.create_default_context()
                connection.sock = safe.wrap_socket(connection.sock, server_hostname=where.host)
            connection.request(self._method, where.target, self._body, {"user-agent": "homereel", **self._headers})
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise Unreachable(f"{where.host} did not answer: {error}") from None
        if not 200 <= answer.status < 300:
            connection.close()
            why = "; redirects are not followed" if 300 <= answer.status < 400 else ""
            raise Unreachable(f"{where.host} answered {answer.status}{why}")
        return answer

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._connection.close()
        if isinstance(error, OSError | http.client.HTTPException):
            raise Unreachable(f"{self._address.host} broke off: {error}") from None
