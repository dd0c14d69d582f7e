"""``graftwork models export``: a version in a format that others run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from models.errors import InvalidParameter
from models.options import DEFAULT_REPOSITORY, JsonOption, RepositoryOption, example

if TYPE_CHECKING:
    from service.export.report import ExportReport
    from service.export.subject import Subject
    from service.export.triton_config import Backend

app = typer.Typer()

Format: TypeAlias = Literal["triton", "onnx", "huggingface"]


@app.command(
    epilog=example(
        "graftwork models export flowers:3 --format onnx --to flowers-onnx",
        "graftwork models export flowers@champion --format triton --to triton-models",
        "graftwork models export flowers --format triton --backend python --to triton-models",
        "graftwork models export flowers --format triton --backbone-only --to triton-models",
        "graftwork models export intents --format huggingface --to intents-hf",
    )
)
def export(
    reference: Annotated[str, typer.Argument(metavar="NAME[:N|@ALIAS]", help="A model or one version of it.")],
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="triton: a model repository; onnx: one graph with all that it needs; huggingface: what timm or transformers load.",
        ),
    ],
    to: Annotated[
        Path,
        typer.Option(
            "--to", metavar="DIR", help="A new directory; for triton, a model repository that is there will do."
        ),
    ],
    backend: Annotated[
        Literal["onnxruntime", "python"] | None,
        typer.Option(
            "--backend", help="Of Triton: python runs the same graph, where there is no other.  [default: onnxruntime]"
        ),
    ] = None,
    backbone_only: Annotated[
        bool,
        typer.Option("--backbone-only", help="For triton: what `serve --engine triton` asks, and no whole version."),
    ] = False,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    as_json: JsonOption = False,
) -> None:
    """Write a version in a format that others run, and check that it answers the golden inputs as the version does.

    Where it does not, nothing is written. How far answers are apart stands in `export-report.json`, beside what was exported.
    """
    if form != "triton" and (backend is not None or backbone_only):
        raise InvalidParameter("--backend and --backbone-only are for --format triton")
    from rich.console import Console

    from models.repository import ModelRepository
    from models.version import Reference

    parsed = Reference.parse(reference)
    with Console(stderr=True).status("") as status:

        def say(what: str) -> None:
            status.update(f"{what} ...")

        say(f"reading {parsed}")
        from service.export.subject import Subject

        subject = Subject.read(ModelRepository(repository), parsed)
        reports = _exported(subject, form, to, backend or "onnxruntime", backbone_only, say)
    if as_json:
        print(json.dumps({"to": str(to), "exports": [each.summary(to) for each in reports]}))
        return
    from models.aligned_table import print_table
    from service.export.report import HEADER

    print_table(HEADER, [line for each in reports for line in each.lines()])
    print(f"{subject.version} is exported to {to}: the same answers within what is tolerated")


def _exported(
    subject: Subject, form: Format, to: Path, backend: Backend, backbone_only: bool, say: Callable[[str], None]
) -> Sequence[ExportReport]:
    if form == "triton":
        from service.export.triton_export import export_triton

        return export_triton(subject, to, backend, say, backbone_only=backbone_only)
    from service.export.directory_export import export_directory

    if form == "onnx":
        from service.export.onnx_export import OnnxFormat

        return export_directory(subject, to, OnnxFormat(subject), say)
    from service.export.huggingface_export import huggingface_format

    return export_directory(subject, to, huggingface_format(subject), say)
