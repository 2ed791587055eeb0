"""Tells the address that a job names how the job ended: signed, at least once, also after a restart of the server.

Signed as standardwebhooks.com has it, which is how OpenAI signs its own: HMAC-SHA256 over "id.timestamp.body".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from contextlib import suppress
from pathlib import Path

from homereel.core.errors import InvalidRequest, JobsError, UnknownJob
from homereel.jobs.live_preview import write_whole
from homereel.jobs.records import TERMINAL, Event, Job
from homereel.jobs.store import JobStore
from homereel.server.outbound import Outbound, Unreachable
from homereel.server.token_file import read_token

SECRET_FILE, CURSOR_FILE = "webhook.secret", "webhook.cursor"
_LOOK_SECONDS = 1.0
_PAUSES = (1.0, 5.0)  # before the second and the third try
_LEAVE_SECONDS = 5.0
_log = logging.getLogger("homereel.server")


class Webhooks:
    """A thread that follows the store's events; one delivery at a time, in their order."""

    def __init__(
        self,
        store: JobStore,
        *,
        data: Path,
        outbound: Outbound,
        pauses: tuple[float, ...] = _PAUSES,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._store, self._outbound, self._pauses, self._look_seconds = store, outbound, pauses, look_seconds
        self._secret = read_token(data / SECRET_FILE).encode()
        self._cursor = data / CURSOR_FILE
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin where the last server ended, or now."""
        self._thread.start()

    def stop(self) -> None:
        """What is not delivered by now is delivered by the next server, also what hangs at a slow receiver."""
        self._stopping.set()
        self._thread.join(_LEAVE_SECONDS)

    def _run(self) -> None:
        seen: int | None = None
        while not self._stopping.is_set():
            with suppress(JobsError):  # locked, full: the next look may find it again
                seen = self._seen() if seen is None else seen
                events = self._store.events(seen, limit=100)
                for event in events:
                    if not self._handle(event):
                        return
                    seen = event.number
                if events:
                    self._keep(seen)
            self._stopping.wait(self._look_seconds)

    def _seen(self) -> int:
        newest = self._store.last_event()
        try:
            return min(newest, int(self._cursor.read_text(encoding="ascii")))
        except (OSError, ValueError):
            self._keep(newest)
            return newest

    def _keep(self, number: int) -> None:
        try:
            write_whole(self._cursor, str(number).encode())
        except OSError as error:
            _log.error("%s cannot be written: %s; webhooks may be sent again", self._cursor, error.strerror)

    def _handle(self, event: Event) -> bool:
        """False if the server ends before it was told."""
        if event.kind not in TERMINAL:
            return True
        try:
            job = self._store.get(event.job_id)
        except UnknownJob:
            return True
        url = job.extra.get("webhook")
        return self._deliver(url, event, job) if isinstance(url, str) else True

    def _deliver(self, url: str, event: Event, job: Job) -> bool:
        body = _body(event, job)
        for pause in (*self._pauses, None):
            if self._stopping.is_set():
                return False
            try:
                self._outbound.post(url, body, headers=_signed(self._secret, f"evt_{event.number}", body))
                return True
            except InvalidRequest as error:
                _log.warning("the webhook of %s was not sent: %s", job.id, error)
                return True
            except Unreachable as error:
                _log.warning("the webhook of %s: %s", job.id, error)
            if pause is not None and self._stopping.wait(pause):
                return False
        return True


def _body(event: Event, job: Job) -> bytes:
    """In the shape of OpenAI's own; a cancelled job counts as failed there."""
    kind = "video.completed" if event.kind == "completed" else "video.failed"
    told = {
        "id": f"evt_{event.number}",
        "object": "event",
        "type": kind,
        "created_at": int(event.at),
        "data": {"id": job.id, "status": event.kind},
    }
    return json.dumps(told).encode()


def _signed(secret: bytes, number: str, body: bytes) -> dict[str, str]:
    now = str(int(time.time()))
    mac = hmac.new(secret, b".".join((number.encode(), now.encode(), body)), hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": number,
        "webhook-timestamp": now,
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }
