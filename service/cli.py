"""``graftwork serve`` and ``graftwork demo``."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ByteSize, Field, TypeAdapter, ValidationError

from models.compute_environment import COMPUTE_ENVIRONMENT
from models.options import (
    DEFAULT_REPOSITORY,
    CacheDirOption,
    PrecisionOption,
    RepositoryOption,
    ServingEngineOption,
    check_engine,
    default_cache_dir,
    example,
)
from service.auth.cli import KeysOption
from service.auth.key_file import open_key_file
from service.triton.options import TritonUrlOption, check_triton

logger = logging.getLogger(__name__)

app = typer.Typer()

LOOPBACK = ("127.0.0.1", "localhost")

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}  # a server never downloads, whatever its environment says
WORKER_ENVIRONMENT = {
    **COMPUTE_ENVIRONMENT,
    **OFFLINE,
    "TRANSFORMERS_VERBOSITY": "error",  # it writes to stderr itself, where every line is JSON
}


def exit_at_once(*_args: object) -> None:
    """Ends a server that is told to while it starts; the first process of a container would not be told without a handler."""
    sys.exit(0)


@app.command(
    epilog=example(
        "graftwork serve",
        "graftwork serve --port 9000 --workers 2 --repository /models",
        "graftwork serve --host 0.0.0.0 --keys /etc/graftwork/keys.json",
        "graftwork serve --grpc-port 8001",
        "graftwork serve --engine triton --triton-url triton-0:8001 --triton-url triton-1:8001",
    )
)
def serve(
    host: Annotated[str, typer.Option(help="Address to bind: 127.0.0.1, 0.0.0.0 or ::.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1024, max=65535)] = 8000,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            min=1024, max=65535, help="Serve the Open Inference Protocol over gRPC as well.", show_default=False
        ),
    ] = None,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    keys: KeysOption = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: every GPU, else the CPU.")] = "auto",
    engine: ServingEngineOption = "auto",
    triton_url: TritonUrlOption = None,
    precision: PrecisionOption = "auto",
    cache_dir: CacheDirOption = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Engine workers per device.")] = 1,
    max_batch_rows: Annotated[int, typer.Option(min=1, max=4096, help="The largest batch on the device.")] = 32,
    request_timeout: Annotated[float, typer.Option(min=0.001, help="Seconds until a request gets 504.")] = 30.0,
    worker_timeout: Annotated[
        float, typer.Option(min=2, help="Seconds of silence after which a worker counts as hung and is replaced.")
    ] = 10.0,
    max_rows_in_flight: Annotated[
        int | None,
        typer.Option(min=1, help="Rows in flight above which requests get 503.  [default: 4 batches a worker]"),
    ] = None,
    backbone_memory: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES",
            help="For backbones in each worker, such as 4GiB; what was not used for longest goes, and comes back when it is "
            "asked for.  [default: on a CPU half of the memory]",
        ),
    ] = None,
    drain_delay: Annotated[
        float, typer.Option(min=0, help="Seconds that a stopping server is not ready, but still takes connections.")
    ] = 1.0,
    admin: Annotated[bool, typer.Option("--admin", help="Take promotions, rollbacks and deletions over HTTP.")] = False,
    triton_metrics: Annotated[
        bool, typer.Option("--triton-metrics", help="Have the names of Triton's metrics in /metrics too.")
    ] = False,
    model_control: Annotated[
        Literal["auto", "explicit"],
        typer.Option(help="auto: every model is served; explicit: those that are loaded by their names."),
    ] = "auto",
    load_model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Load this model at the start, * for all; with --model-control explicit."),
    ] = None,
    tei_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:N|@ALIAS]",
            help="The model, or the backbone, for clients of Text Embeddings Inference, which ask for none.  "
            "[default: the backbone, if one reads texts]",
            show_default=False,
        ),
    ] = None,
    traces: Annotated[
        bool,
        typer.Option(
            "--traces",
            help="Trace requests with OpenTelemetry, to http://localhost:4318 or where OTEL_EXPORTER_OTLP_ENDPOINT says; "
            "OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG and the other variables hold. Needs graftwork[otel].",
        ),
    ] = False,
    allow_unauthenticated: Annotated[
        bool, typer.Option("--allow-unauthenticated", help="Bind an address that other machines reach, without keys.")
    ] = False,
) -> None:
    """Serve every version in the repository; new ones are picked up while it runs."""
    host = "127.0.0.1" if host == "localhost" else host
    if host not in ("127.0.0.1", "0.0.0.0", "::"):
        raise typer.BadParameter(f"{host}: the address must be 127.0.0.1, 0.0.0.0 or ::", param_hint="--host")
    has_keys = bool(open_key_file(keys, repository).active())
    if host not in LOOPBACK and not has_keys and not allow_unauthenticated:
        raise typer.BadParameter(
            f"{host} can be reached from other machines and there are no keys; make one: graftwork keys create, "
            "or add --allow-unauthenticated",
            param_hint="--host",
        )
    if admin and host not in LOOPBACK and not has_keys:
        raise typer.BadParameter(
            f"{host} can be reached from other machines; first: graftwork keys create --scope admin",
            param_hint="--admin",
        )
    if model_control == "explicit" and host not in LOOPBACK and not has_keys:
        raise typer.BadParameter(
            f"{host} can be reached from other machines, and models are loaded by whoever may; "
            "first: graftwork keys create --scope admin",
            param_hint="--model-control",
        )
    if load_model and model_control != "explicit":
        raise typer.BadParameter(
            "every model is served; to load them by their names, add --model-control explicit",
            param_hint="--load-model",
        )
    from models.version import check_model_id, check_name

    load_models = tuple(name if name == "*" else check_name(name) for name in load_model or ())
    check_triton(engine, triton_url or (), precision, limits_memory=backbone_memory is not None)
    if engine != "triton":
        check_engine(engine, precision, device)
    if traces and not _is_installed("opentelemetry-exporter-otlp-proto-http"):
        raise typer.BadParameter(
            "traces come with an extra that is not installed: pip install 'graftwork[otel]'", param_hint="--traces"
        )
    memory = None if backbone_memory is None else _bytes(backbone_memory)
    signal.signal(signal.SIGTERM, exit_at_once)
    from importlib.metadata import version

    from service.log import configure_logging, flush_log
    from service.settings import ServerSettings
    from service.substrate import GraftworkServer

    settings = ServerSettings(
        repository=repository,
        keys=keys,
        host=host,
        port=port,
        grpc_port=grpc_port,
        device=device,
        engine=engine,
        triton_urls=tuple(triton_url or ()),
        precision=precision,
        cache_dir=cache_dir or default_cache_dir(os.environ),
        workers=workers,
        max_batch_rows=max_batch_rows,
        request_timeout_seconds=request_timeout,
        worker_timeout_seconds=worker_timeout,
        max_rows_in_flight=max_rows_in_flight,
        admin=admin,
        triton_metrics=triton_metrics,
        model_control=model_control,
        load_models=load_models,
        tei_model=None if tei_model is None else check_model_id(tei_model),
        backbone_memory=memory,
        traces=traces,
        drain_delay_seconds=drain_delay,
        drain_seconds=max(30, math.ceil(request_timeout)),
    )
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.update(OFFLINE)
    configure_logging()
    if not repository.is_dir():
        logger.warning("%s does not exist yet; what is published there will be served", repository)
    try:
        code = GraftworkServer(settings, version("graftwork")).serve()
    finally:
        flush_log()  # before whatever is said about an error
    sys.exit(code)


def _is_installed(distribution: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _bytes(text: str) -> ByteSize:
    try:
        return TypeAdapter(Annotated[ByteSize, Field(gt=0)]).validate_python(text)
    except ValidationError:
        raise typer.BadParameter(f"{text}: name a size such as 4GiB or 500MB", param_hint="--backbone-memory") from None


@app.command(epilog=example("graftwork demo", "graftwork demo --keep"))
def demo(
    directory: Annotated[Path, typer.Option(help="For data, models and the log.")] = Path("graftwork-demo"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running until Ctrl-C.")] = False,
) -> None:
    """Show the main job on real data, from nothing to answered predictions."""
    from rich.console import Console

    from service.demo import Demo

    Demo(directory, Console()).run(keep=keep)
