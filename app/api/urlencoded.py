"""A body as HTML forms without files have it -> the same fields as those of a multipart form."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import parse_qsl

from app.api.multipart import MAX_FIELDS
from app.domain.errors import MalformedRequest, UnsupportedOption

URLENCODED = b"application/x-www-form-urlencoded"
MAX_BYTES = 1 << 20


class Form(Protocol):
    """What takes the fields, see `forms`."""

    @property
    def without_file(self) -> str: ...

    def add_value(self, name: str, text: str) -> None: ...

    def on_end(self) -> None: ...


class UrlencodedBody:
    """Parses one body. An empty one has no fields.

    Raises MalformedRequest, UnsupportedOption, and what the form raises.
    """

    def __init__(self, form: Form) -> None:
        self._form = form
        self._text = bytearray()

    async def parse(self, data: bytes) -> None:
        self._text += data
        if len(self._text) > MAX_BYTES:  # probably a recording
            raise UnsupportedOption(self._form.without_file)

    def finalize(self) -> None:
        text = self._text.decode("utf-8", "replace")
        try:
            fields = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except ValueError:
            raise MalformedRequest(f"The form has more than {MAX_FIELDS} fields.") from None
        for name, value in fields:
            self._form.add_value(name, value)
        self._form.on_end()
