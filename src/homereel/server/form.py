"""Reads multipart/form-data as it arrives: fields into memory, files straight into the box of uploads, all bounded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anyio import to_thread
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from homereel.core.errors import InvalidRequest, TooLarge
from homereel.server.uploads import Incoming, Upload, UploadBox

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS = 64
MAX_FIELD_BYTES = 2**20
_FLUSH_BYTES = 2**20


@dataclass(frozen=True)
class Form:
    """What a form brought, by the names of its parts."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, Upload] = field(default_factory=dict)

    def drop_files(self) -> None:
        """Remove files that nothing came of."""
        for upload in self.files.values():
            upload.path.unlink(missing_ok=True)


async def read_form(request: Request, *, box: UploadBox, max_inline_bytes: int) -> Form:
    """The whole form. Text fields hold at most a megabyte, and a picture that is written out as a data URL
    `max_inline_bytes`. Raises InvalidRequest, TooLarge, UnreadableMedia or UnwritableTarget; then no file is kept.
    """
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 200:
        raise InvalidRequest("the form has no boundary; leave the content type to your program's form functions")
    reader = _Reader(box, max_inline_bytes=max_inline_bytes)
    try:
        parser = MultipartParser(boundary, reader.callbacks)
        async for chunk in request.stream():
            parser.write(chunk)
            if reader.waiting >= _FLUSH_BYTES:
                await to_thread.run_sync(reader.flush)
        parser.finalize()
        await to_thread.run_sync(reader.flush)
        if not reader.is_whole:
            raise InvalidRequest("the form was cut off; send it again")
        return reader.form
    except FormParserError:
        await to_thread.run_sync(reader.abandon)
        raise InvalidRequest("the form cannot be read; was it cut off?") from None
    except BaseException:
        reader.abandon()
        raise


@dataclass
class _Part:
    name: str = ""
    file: Incoming | None = None
    text: bytearray = field(default_factory=bytearray)
    is_blank: bool = False  # a browser's file field without a file


class _Reader:
    """What the parser calls. It may not wait, so file data is kept until the next `flush`."""

    def __init__(self, box: UploadBox, *, max_inline_bytes: int) -> None:
        self.form, self.waiting, self.is_whole = Form(), 0, False
        self._box, self._max_inline = box, max_inline_bytes
        self._part, self._num_parts = _Part(), 0
        self._header: dict[bytes, bytes] = {}
        self._header_name, self._header_value = b"", b""  # how long these may be is the parser's matter
        self._pending: list[tuple[_Part, bytes | None]] = []  # None: the file ends here
        self._open: list[Incoming] = []
        self.callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header_name,
            "on_header_value": self._on_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_data,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._end_form,
        }

    def flush(self) -> None:
        """Write what is waiting to the disk; blocks."""
        pending, self._pending, self.waiting = self._pending, [], 0
        for part, data in pending:
            assert part.file is not None
            if data is not None:
                part.file.write(data)
            else:
                self.form.files[part.name] = part.file.finish()
                self._open.remove(part.file)

    def abandon(self) -> None:
        """Leave no file behind."""
        for incoming in self._open:
            incoming.abandon()
        self.form.drop_files()

    def _begin(self) -> None:
        self._part, self._header = _Part(), {}
        self._num_parts += 1
        if self._num_parts > MAX_PARTS:
            raise TooLarge(f"the form has more than {MAX_PARTS} parts")

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._header[self._header_name.lower()] = self._header_value
        self._header_name, self._header_value = b"", b""

    def _begin_data(self) -> None:
        _, options = parse_options_header(self._header.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if not name:
            raise InvalidRequest("a part of the form has no name")
        if name in self.form.fields or name in self.form.files:
            raise InvalidRequest(f"{name[:60]!r} is there twice; keep one", field=name[:60])
        self._part.name = name
        file_name = options.get(b"filename")
        if file_name is None:
            return
        if not file_name:
            self._part.is_blank = True
            return
        self._part.file = self._box.start(file_name.decode("utf-8", "replace"))
        self._open.append(self._part.file)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part.file is not None:
            self._pending.append((part, bytes(data[start:end])))
            self.waiting += end - start
            return
        part.text += data[start:end]
        most = self._max_inline if part.name.startswith("input_reference") else MAX_FIELD_BYTES
        if len(part.text) > most:
            raise TooLarge(f"{part.name[:60]}: at most {most:,} bytes are taken", field=part.name[:60])

    def _end(self) -> None:
        part = self._part
        if part.file is not None:
            self._pending.append((part, None))
        elif part.is_blank:
            if part.text:
                raise InvalidRequest(f"{part.name[:60]}: the file has no name; give it one", field=part.name[:60])
        else:
            try:
                self.form.fields[part.name] = part.text.decode("utf-8")
            except UnicodeDecodeError:
                raise InvalidRequest(f"{part.name[:60]}: it is no UTF-8 text", field=part.name[:60]) from None

    def _end_form(self) -> None:
        self.is_whole = True
