"""The command-line options of offloading."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import typer

from models.errors import InvalidParameter
from models.options import PrecisionName, ServingEngineName

TritonUrlOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--triton-url",
        metavar="HOST:PORT",
        envvar="GRAFTWORK_TRITON_URL",
        help="A Triton server's gRPC, with --engine triton; several are a fleet, any of which may answer.",
    ),
]

_URL = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


def check_triton(
    engine: ServingEngineName, urls: Sequence[str], precision: PrecisionName, *, limits_memory: bool
) -> None:
    """Refuses what does not go together.

    Args:
        limits_memory: of backbones.

    Raises:
        InvalidParameter: with the cure.
    """
    if engine != "triton":
        if urls:
            raise InvalidParameter("a Triton server computes nothing without --engine triton")
        return
    if not urls:
        raise InvalidParameter(
            "--engine triton needs a server; add --triton-url HOST:PORT, where it serves gRPC (8001)"
        )
    for url in urls:
        if not _URL.fullmatch(url):
            raise InvalidParameter(f"{url}: name a Triton server by HOST:PORT of its gRPC, such as triton:8001")
    if len(set(urls)) < len(urls):
        raise InvalidParameter("a Triton server is named twice; name each once")
    if precision == "int8":
        raise InvalidParameter("what is exported for Triton computes in fp32; use --precision auto")
    if limits_memory:
        raise InvalidParameter("with --engine triton no backbone is in memory here; leave --backbone-memory out")
