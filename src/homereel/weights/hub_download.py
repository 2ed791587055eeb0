"""Brings one file from the hub, going on where a cut left it, in this process or a later one.

huggingface-hub's own download begins anew in each process, so only its client, endpoint and headers are used.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from homereel.core.errors import Stopped, WeightsError
from homereel.weights.hub_errors import hub_name, reason, refusal
from homereel.weights.hub_listing import Listing, RemoteFile
from homereel.weights.transfer import Meter, ShouldStop

PATIENCE = 5  # tries one after the other that bring nothing
PAUSE_SECONDS = 1.0  # before the second try; twice as long before each further one
MAX_PAUSE_SECONDS = 60.0
SILENCE_SECONDS = 30.0  # a line that brings nothing for so long is cut


def download(listing: Listing, file: RemoteFile, part: Path, *, meter: Meter, should_stop: ShouldStop | None) -> None:
    """Make `part` the whole file. Bytes that are there are kept; its hash is not checked here.

    Raises WeightsError if the hub refuses or the line stays dead, Stopped if asked to; what has come stays.
    """
    if part.exists() and part.stat().st_size > file.size:
        part.unlink()
    if file.size == 0:
        part.touch()
    meter.skip(_size(part))
    failures = 0
    while _size(part) < file.size:
        before = _size(part)
        try:
            problem = _stream(listing, file, part, meter=meter, should_stop=should_stop)
        except _transport_errors() as error:
            problem = _Problem(reason(error))
        failures = 1 if _size(part) > before else failures + 1
        if problem is None or _size(part) >= file.size:
            continue
        if failures > PATIENCE:
            raise WeightsError(
                f"{file.path} stays cut at {_size(part):,} of {file.size:,} bytes ({problem.text}); "
                "what has come is kept, so run the same command again"
            )
        _rest(problem.wait_seconds or PAUSE_SECONDS * 2 ** (failures - 1), should_stop=should_stop)


class _Problem:
    """Why a try ended early, and how long the hub wants us to wait."""

    def __init__(self, text: str, *, wait_seconds: float = 0.0) -> None:
        self.text = text
        self.wait_seconds = wait_seconds


def _stream(
    listing: Listing, file: RemoteFile, part: Path, *, meter: Meter, should_stop: ShouldStop | None
) -> _Problem | None:
    """One request. Returns what went wrong, if it may go better next time."""
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session

    url = hf_hub_url(listing.repo, file.path, revision=listing.revision, endpoint=constants.ENDPOINT)
    have = _size(part)
    headers = {**build_hf_headers(library_name="homereel"), "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with get_session().stream("GET", url, headers=headers, timeout=SILENCE_SECONDS, follow_redirects=True) as response:
        problem = _refused(response, listing.repo, file)
        if problem is not None:
            if response.status_code == 416:
                meter.add(-have, file=file.path)
                part.unlink(missing_ok=True)
            return problem
        goes_on = response.status_code == 206 and _starts_at(response, have)
        if have and not goes_on:
            if response.status_code == 206:
                return _Problem("the hub sent another part than asked for")
            meter.add(-have, file=file.path)  # the whole file comes again
        return _write(response, part, mode="ab" if goes_on else "wb", file=file, meter=meter, should_stop=should_stop)


def _write(
    response: Any, part: Path, *, mode: str, file: RemoteFile, meter: Meter, should_stop: ShouldStop | None
) -> _Problem | None:
    try:
        with part.open(mode) as target:
            for chunk in response.iter_raw():
                target.write(chunk)
                meter.add(len(chunk), file=file.path)
                if target.tell() > file.size:
                    return None  # too long: the check will find it
                if should_stop is not None and should_stop():
                    raise Stopped(f"stopped; {meter.done_bytes:,} bytes are kept, the same command goes on from there")
    except OSError as error:
        if isinstance(error, _transport_errors()):
            raise
        raise WeightsError(f"{part.parent} cannot be written: {error.strerror or error}") from None
    return None if _size(part) >= file.size else _Problem("the line was cut")


def _refused(response: Any, repo: str, file: RemoteFile) -> _Problem | None:
    status = response.status_code
    if status in (200, 206):
        return None
    if status in (408, 416, 429) or status >= 500:
        wait = str(response.headers.get("Retry-After", ""))
        seconds = min(float(wait), MAX_PAUSE_SECONDS) if wait.isdigit() else 0.0
        return _Problem(f"{hub_name()} answered {status}", wait_seconds=seconds)
    gated = response.headers.get("X-Error-Code") == "GatedRepo"
    if status == 404:
        raise WeightsError(f"{hub_name()} has no {file.path} in {repo} any more; run the same command again")
    raise WeightsError(refusal(repo, status=status, gated=gated))


def _starts_at(response: Any, have: int) -> bool:
    return str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _rest(seconds: float, *, should_stop: ShouldStop | None, sleep: Callable[[float], None] = time.sleep) -> None:
    until = time.monotonic() + min(seconds, MAX_PAUSE_SECONDS)
    while (left := until - time.monotonic()) > 0:
        if should_stop is not None and should_stop():
            raise Stopped("stopped; what has come is kept, the same command goes on from there")
        sleep(min(left, 0.2))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _transport_errors() -> tuple[type[BaseException], ...]:
    from huggingface_hub.errors import HfHubHTTPError

    return (HfHubHTTPError.__bases__[0],)  # the root of the client's own errors
