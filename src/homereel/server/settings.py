"""What a server is told at its start: where jobs lie, who may come in, how much they may bring."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from homereel.core.errors import InvalidRequest

DEFAULT_PORT = 8420
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MIN_TOKEN = 16
MAX_TOKEN = 1_000


@dataclass(frozen=True)
class Settings:
    """Raises InvalidRequest for an address that others can reach without a token that keeps them out."""

    data: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT  # 0 takes any that is free
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()  # names beside localhost by which clients call this server
    workers: int = 1  # 0 only takes jobs; whoever else works on the same folder runs them
    gpus: tuple[str, ...] = ()  # a worker for each of these, instead
    allow_webhooks: bool = False
    allow_urls: bool = False  # fetch a picture that a request names by its address
    allow_private: bool = False  # both of these also within the own network
    offline: bool = False
    max_json_bytes: int = 2**20
    max_inline_bytes: int = 32 * 2**20  # JSON with a picture in it
    max_upload_bytes: int = 2 * 2**30  # a file
    max_uploads_bytes: int = 20 * 2**30  # all files that wait for their job
    max_followers: int = 32  # streams of events at a time

    def __post_init__(self) -> None:
        if not self.is_local and self.token is None:
            raise InvalidRequest(
                f"--listen {self.host} lets others in, and there is no token to keep strangers out; "
                "give --token-file FILE (it is made if it is not there), or HOMEREEL_TOKEN",
                field="token",
            )
        if self.token is not None and not (
            MIN_TOKEN <= len(self.token) <= MAX_TOKEN and self.token.isascii() and self.token.isprintable()
        ):
            raise InvalidRequest(
                f"a token needs {MIN_TOKEN} to {MAX_TOKEN:,} plain characters, so that nobody guesses it; "
                "--token-file FILE makes one",
                field="token",
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host, as it is listened on, is this machine alone."""
    if host in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
