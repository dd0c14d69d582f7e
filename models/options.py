"""Command-line options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from models.errors import InvalidParameter

RepositoryOption: TypeAlias = Annotated[
    Path,
    typer.Option("--repository", envvar="GRAFTWORK_REPOSITORY", help="Where model versions lie.", show_default=True),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

CacheDirOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir", envvar="GRAFTWORK_CACHE_DIR", help="For features and engines; ~/.cache/graftwork without."
    ),
]

EngineName: TypeAlias = Literal["auto", "torch", "openvino"]
EngineOption: TypeAlias = Annotated[
    EngineName,
    typer.Option("--engine", envvar="GRAFTWORK_ENGINE", help="auto: the fastest that gives the right features."),
]

ServingEngineName: TypeAlias = Literal[
    EngineName, "triton"
]  # others may compute what is served, never what is learnt from
ServingEngineOption: TypeAlias = Annotated[
    ServingEngineName,
    typer.Option(
        "--engine",
        envvar="GRAFTWORK_ENGINE",
        help="auto: the fastest that gives the right features. triton: forward passes by the servers of --triton-url.",
    ),
]

PrecisionName: TypeAlias = Literal["auto", "fp32", "int8"]
PrecisionOption: TypeAlias = Annotated[
    PrecisionName,
    typer.Option(
        "--precision", envvar="GRAFTWORK_PRECISION", help="auto: int8 where it is faster and no less accurate."
    ),
]

DEFAULT_REPOSITORY = Path("model-repository")


def example(*commands: str) -> str:
    """The epilogue of a command's help: commands that can be typed as they are."""
    return "**Examples**\n\n" + "\n\n".join(f"`{command}`" for command in commands)


def check_engine(engine: EngineName, precision: PrecisionName, device: str) -> None:
    """Refuses what does not go together.

    Args:
        device: as the user named it, or as torch does; ``auto`` may turn out to be anything.

    Raises:
        InvalidParameter: with the cure.
    """
    if precision == "int8" and engine == "torch":
        raise InvalidParameter("torch does not compute in int8; use --engine auto")
    if not device.startswith("cuda"):
        return
    if engine == "openvino":
        raise InvalidParameter(f"openvino runs on the CPU, and the device is {device}; use --engine auto")
    if precision == "int8":
        raise InvalidParameter(f"int8 is computed on the CPU, and the device is {device}; use --precision auto")


def default_cache_dir(environment: Mapping[str, str]) -> Path:
    """Where caches go by the XDG convention."""
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "graftwork"
