"""Writes multipart bodies."""

from __future__ import annotations

from collections.abc import Sequence

FORM_DATA = "multipart/form-data"
BOUNDARY = "XxX"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
END = f"--{BOUNDARY}--\r\n".encode()


def part(data: bytes, *, disposition: str = 'form-data; name="image"; filename="a.png"') -> bytes:
    return (
        f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\nContent-Type: image/png\r\n\r\n".encode()
        + data
        + b"\r\n"
    )


def form(
    parts: Sequence[bytes],
    boundary: bytes,
    *,
    headers: bytes = b"",
    preamble: bytes = b"",
    padding: bytes = b"",
    epilogue: bytes = b"",
) -> bytes:
    """A multipart body as RFC 2046, 5.1.1, describes it."""
    lines = [preamble] if preamble else []
    for data in parts:
        lines += [b"--" + boundary + padding, headers, data]
    return b"\r\n".join([*lines, b"--" + boundary + b"--" + padding]) + epilogue
