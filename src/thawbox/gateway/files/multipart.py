"""A multipart form with one file, read as it comes: the file is never in memory as a whole."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from enum import Enum, auto

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from thawbox.errors import UserError

FIELD_MAX = 16 * 1024
"""Bytes of one field that is not the file."""
PARTS_MAX = 100


class _Kind(Enum):
    BEGIN = auto()
    DATA = auto()
    END = auto()


class UploadForm:
    """Await ``until_file``, then iterate over ``content`` to its end; then ``fields`` is complete."""

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        """Raises:
        UserError: ``content_type`` is not that of a multipart form.
        """
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise UserError(
                f"Content-Type is {content_type[:100]!r}: send the file as part 'file' of multipart/form-data."
            )
        self.fields: dict[str, str] = {}
        """The other fields, as far as they have been read."""
        self._body = body
        self._events: deque[tuple[_Kind, bytes]] = deque()
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._parts = 0
        self._complete = False
        callbacks = {
            "on_part_begin": self._on_part_begin,
            "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
            "on_header_end": self._on_header_end,
            "on_headers_finished": lambda: self._events.append((_Kind.BEGIN, self._disposition)),
            "on_part_data": lambda data, start, end: self._events.append((_Kind.DATA, data[start:end])),
            "on_part_end": lambda: self._events.append((_Kind.END, b"")),
            "on_end": self._on_end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError:
            raise UserError("The boundary in Content-Type is not valid.") from None

    async def until_file(self) -> str:
        """Read up to the file's first byte; returns its name, without folders.

        Raises:
            UserError: there is no part ``file``, or the form is broken.
        """
        while (event := await self._next()) is not None:
            _, disposition = event
            name, filename = _names(disposition)
            if name == "file":
                return filename
            self.fields[name] = await self._field(name)
        raise UserError("The form has no part 'file': send the file's bytes under this name.")

    async def content(self) -> AsyncIterator[bytes]:
        """The file's bytes; afterwards reads the fields that follow it.

        Raises:
            UserError: the form is broken, or breaks off.
        """
        while (event := await self._next()) is not None:
            kind, data = event
            if kind is _Kind.END:
                break
            yield data
        while (event := await self._next()) is not None:
            name, _ = _names(event[1])
            if name == "file":
                raise UserError("The form has two context 'file': send one file per request.")
            self.fields[name] = await self._field(name)

    async def _field(self, name: str) -> str:
        value = bytearray()
        while (event := await self._next()) is not None:
            kind, data = event
            if kind is _Kind.END:
                break
            value += data
            if len(value) > FIELD_MAX:
                raise UserError(f"Field {name[:50]!r} has more than {FIELD_MAX} bytes.")
        return value.decode("utf-8", "surrogateescape")

    async def _next(self) -> tuple[_Kind, bytes] | None:
        """The next event; None at the form's end."""
        while not self._events:
            if self._complete:
                return None
            try:
                chunk = await anext(self._body)
            except (StopAsyncIteration, ClientDisconnect):
                raise UserError("The form broke off: its last boundary is missing.") from None
            if chunk:
                try:
                    self._parser.write(chunk)
                except FormParserError as error:
                    raise UserError(f"The form is not well-formed: {str(error)[:200]}.") from None
        return self._events.popleft()

    def _on_part_begin(self) -> None:
        self._disposition = b""
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise UserError(f"The form has more than {PARTS_MAX} context.")

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_end(self) -> None:
        self._complete = True


def _names(disposition: bytes) -> tuple[str, str]:
    """A part's field name, and the last component of its file's name."""
    _, options = parse_options_header(disposition)
    name = options.get(b"name", b"").decode("utf-8", "replace")
    filename = options.get(b"filename", b"").decode("utf-8", "surrogateescape")
    last = filename.replace("\\", "/").rpartition("/")[2].replace("\x00", "")
    return name, last if last not in ("", ".", "..") else "upload"
