"""The body of create, edit and extend as clients of OpenAI's shape send it, turned into the fields of a request.

Other servers of this shape have further names for the same things; all are understood. A name that nobody here knows
is left out, and the answer says so: clients are written for many servers, and send what one of them once wanted.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from anyio import to_thread
from starlette.requests import Request as HttpRequest

from homereel.core.errors import InvalidRequest, TooLarge
from homereel.core.request import Request
from homereel.server.attachments import FILE_FIELDS, INNER_FIELDS, LIST_FIELD
from homereel.server.form import MAX_FIELD_BYTES, read_form
from homereel.server.guard import FORM
from homereel.server.json_body import read_json
from homereel.server.parts import Parts
from homereel.server.uploads import VIDEO_KINDS, Upload

ALIASES = {"num_inference_steps": "steps", "guidance_scale": "guidance", "flow_shift": "shift"}
_FILES = {*FILE_FIELDS, LIST_FIELD, *INNER_FIELDS}
_PLAIN = set(Request.model_fields) - _FILES
_INNER = re.compile(r"(\w{1,40})\[(\w{1,40})\]")
_SIZE = re.compile(r"([0-9]{1,6})x([0-9]{1,6})")


@dataclass
class VideoBody:
    """What was sent. `video` of an edit stays as it came; `fields` are those of a request."""

    values: dict[str, Any]
    files: dict[str, Upload]
    fields: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@asynccontextmanager
async def video_body(http: HttpRequest, parts: Parts, *, reserved: frozenset[str]) -> AsyncIterator[VideoBody]:
    """Read it; files that it brought are gone when the context ends, so a job must have its copy by then.

    `reserved` are the names that the caller reads itself, from `values` and `files`.
    """
    values, files = await _read(http, parts)
    body = VideoBody(values, files)
    try:
        await _settle(body, parts, reserved=reserved)
        yield body
    finally:
        for upload in files.values():
            upload.path.unlink(missing_ok=True)


async def _read(http: HttpRequest, parts: Parts) -> tuple[dict[str, Any], dict[str, Upload]]:
    most = parts.settings.max_inline_bytes
    if http.headers.get("content-type", "").lower().startswith(FORM):
        form = await read_form(http, box=parts.uploads, max_inline_bytes=most)
        return _nested(form.fields), form.files
    values = await read_json(http)
    for name, value in values.items():
        if isinstance(value, str) and name != "input_reference" and len(value) > MAX_FIELD_BYTES:
            raise TooLarge(f"{name[:60]}: at most {MAX_FIELD_BYTES:,} characters are taken", field=name[:60])
    return values, {}


def _nested(fields: Mapping[str, str]) -> dict[str, Any]:
    """`video[id]` as forms have it becomes an object with an id."""
    values: dict[str, Any] = {}
    for name, value in fields.items():
        inner = _INNER.fullmatch(name)
        if inner is None:
            values[name] = value
        elif isinstance(values.setdefault(inner[1], {}), dict):
            values[inner[1]][inner[2]] = value
    return values


async def _settle(body: VideoBody, parts: Parts, *, reserved: frozenset[str]) -> None:
    """Fill `fields` and `notes`."""
    fields, ignored = body.fields, []
    for name, value in body.values.items():
        known = ALIASES.get(name, name)
        if name in ("size", "input_reference") or name in reserved or value is None:
            continue
        if value == "" and name != "prompt":  # a form's field that was not filled in
            continue
        if known not in _PLAIN:
            ignored.append(name)
        elif known in fields:
            raise InvalidRequest(f"{name} and {_other(name)} are the same; keep one", field=name)
        else:
            fields[known] = value
    if str(fields.get("seed")) == "-1":  # other servers' word for any
        del fields["seed"]
    _settle_size(fields, body.values.get("size"))
    await _settle_reference(body, parts)
    ignored += [name for name in body.files if name != "input_reference" and name not in reserved]
    if ignored:
        names = ", ".join(name[:40] for name in ignored[:8])
        body.notes.append(f"not known here, and ignored: {names}{' …' if len(ignored) > 8 else ''}")


def _other(name: str) -> str:
    return ALIASES.get(name) or next((alias for alias, known in ALIASES.items() if known == name), name)


def _settle_size(fields: dict[str, Any], size: object) -> None:
    if size is None or size == "":
        return
    found = _SIZE.fullmatch(size.strip().lower()) if isinstance(size, str) else None
    if found is None or not int(found[1]) or not int(found[2]):
        shown = repr(size)[:60]
        raise InvalidRequest(f"size: {shown} is no size; give width and height in pixels as 832x480", field="size")
    for name, asked in (("width", int(found[1])), ("height", int(found[2]))):
        if str(fields.setdefault(name, asked)) != str(asked):
            raise InvalidRequest(f"size is {size} and {name} is {fields[name]!r}; keep one of them", field="size")


async def _settle_reference(body: VideoBody, parts: Parts) -> None:
    """A picture is the first frame; footage is what the clip is made from."""
    given = body.files.get("input_reference") or body.values.get("input_reference")
    if given is None or given == "":
        return
    upload = given if isinstance(given, Upload) else await _named(given, body, parts)
    name = "video" if upload.kind in VIDEO_KINDS else "image"
    body.fields[name] = upload.attached(shown="input_reference")


async def _named(given: object, body: VideoBody, parts: Parts) -> Upload:
    """A picture that is named by the id of an upload, by its address, or written out as a data URL."""
    if isinstance(given, str):
        given = {"image_url": given}
    if isinstance(given, dict) and isinstance(given.get("file_id"), str):
        return parts.uploads.find(given["file_id"], field="input_reference")
    url = given.get("image_url") if isinstance(given, dict) else None
    if not isinstance(url, str):
        raise InvalidRequest(
            "input_reference: send a file, or an object with image_url or file_id", field="input_reference"
        )
    upload = await to_thread.run_sync(_data_url if url.startswith("data:") else _fetch, url, parts)
    body.files["input_reference"] = upload
    return upload


def _data_url(url: str, parts: Parts) -> Upload:
    head, _, content = url.partition(",")
    try:
        if not head.endswith(";base64"):
            raise ValueError(head)
        data = base64.b64decode(content, validate=True)
    except (ValueError, binascii.Error):
        raise InvalidRequest(
            "input_reference: a data URL is data:image/png;base64, and the picture", field="input_reference"
        ) from None
    return _kept(parts, lambda take: take(data))


def _fetch(url: str, parts: Parts) -> Upload:
    if parts.settings.offline or not parts.settings.allow_urls:
        why = "it is offline" if parts.settings.offline else "it was not started with --allow-urls"
        raise InvalidRequest(
            f"input_reference: this server fetches nothing, since {why}; send the picture itself",
            field="input_reference",
        )
    return _kept(parts, lambda take: parts.outbound.get(url, field="input_reference", take=take))


def _kept(parts: Parts, give: Callable[[Callable[[bytes], None]], None]) -> Upload:
    incoming = parts.uploads.start("input_reference")
    try:
        give(incoming.write)
        return incoming.finish()
    except BaseException:
        incoming.abandon()
        raise
