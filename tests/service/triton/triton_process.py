"""A real Triton, as a process of its own: the one that the PyPI package ``nvidia-pytriton`` carries, with its python backend."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.processes import free_port, wait_for

VARIABLE = "GRAFTWORK_TEST_TRITON"  # a virtual environment of its own: `.ci/run` makes it
DEFAULT = Path(__file__).parents[3] / "build" / "triton" / "venv"
STARTING_SECONDS = 60.0


def triton_environment() -> Path:
    """The virtual environment that Triton is in; skips the test where there is none."""
    environment = Path(os.environ.get(VARIABLE, DEFAULT))
    if not (environment / "bin" / "python").exists() or not _server(environment).exists():
        pytest.skip(f"needs nvidia-pytriton, numpy<2 and onnxruntime in {environment} ({VARIABLE}); see .ci/run")
    return environment


def _server(environment: Path) -> Path:
    return next(iter(environment.glob("lib/python*/site-packages/pytriton/tritonserver")), environment / "none")


@dataclass(kw_only=True)
class TritonProcess:
    """``tritonserver`` on a model repository; starts when it is made, and answers once `wait_until_ready` has returned.

    A model's ``model.py`` finds the packages of the environment: onnxruntime, and numpy before version 2, as with numpy 2 the
    python backend of this Triton gives tensors that are empty.

    Args:
        repository: of models.
        options: further ones of ``tritonserver``.
    """

    repository: Path
    options: Sequence[str] = ()
    environment: Path = field(default_factory=triton_environment)
    grpc_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gw-test-"))
        self._server = _server(self.environment)
        # The environment's python is a link to it.
        self._prefix = (self.environment / "bin" / "python").resolve().parents[1]
        self._backends = self._make_backends()
        self.start()

    @property
    def url(self) -> str:
        """For gRPC."""
        return f"127.0.0.1:{self.grpc_port}"

    def _make_backends(self) -> Path:
        """The python backend beside the stub of the interpreter's version, which the package keeps elsewhere."""
        backends = self.directory / "backends"
        shutil.copytree(self._server / "backends" / "python", backends / "python")
        version = self._server.parents[2].name.removeprefix("python")
        shutil.copy2(
            self._server / "python_backend_stubs" / version / "triton_python_backend_stub", backends / "python"
        )
        return backends

    def _variables(self) -> Mapping[str, str]:
        """The stub reads neither PYTHONPATH nor PYTHONHOME: it takes the packages of the first ``python3`` of PATH."""
        libraries = [self._prefix / "lib", self._server.parents[1] / "nvidia_pytriton.libs"]
        path = [str(self.environment / "bin"), os.environ.get("PATH", os.defpath)]
        return {**os.environ, "PATH": os.pathsep.join(path), "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))}

    def start(self) -> None:
        """Starts it on its ports, where it has ended."""
        ports = {"grpc": self.grpc_port, "http": self.http_port, "metrics": self.metrics_port}
        addresses = [f"--{name}-address=127.0.0.1" for name in ("grpc", "http", "metrics")]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(self._server / "bin" / "tritonserver"),
                    f"--model-repository={self.repository}",
                    f"--backend-directory={self._backends}",
                    *(f"--{name}-port={port}" for name, port in ports.items()),
                    *addresses,
                    # Names of its own for shared memory, so that what a kill leaves behind can be told from that of others.
                    f"--backend-config=python,shm-region-prefix-name=gw{self.grpc_port}",
                    *self.options,
                ],
                env=self._variables(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Returns once every model is there."""
        wait_for(lambda: self.is_ready() or self.process.poll() is not None, STARTING_SECONDS, self.log, pause=0.1)
        assert self.process.poll() is None, self.log()

    def is_ready(self) -> bool:
        from tritonclient.grpc import InferenceServerClient
        from tritonclient.utils import InferenceServerException

        with InferenceServerClient(self.url) as client:
            try:
                return bool(client.is_server_ready(client_timeout=2.0))
            except InferenceServerException:
                return False

    def restart(self) -> None:
        """Starts it again on the same ports, and waits until it is ready."""
        self.stop()
        self.start()
        self.wait_until_ready()

    def stop(self) -> None:
        """Lets it end by itself, which it does once its models have."""
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        self.kill()

    def kill(self) -> None:
        """Ends it at once, with the interpreters of its models."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for segment in Path("/dev/shm").glob(f"gw{self.grpc_port}*"):
            segment.unlink(missing_ok=True)

    def pause(self) -> None:
        """It hangs: connections stay open, and nothing is answered."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def destroy(self) -> None:
        self.kill()
        shutil.rmtree(self.directory)


@contextmanager
def ready_triton(repository: Path, *options: str) -> Iterator[TritonProcess]:
    """A Triton whose models are all there, until the end of the block; skips the test where there is none."""
    triton = TritonProcess(repository=repository, options=options)
    try:
        triton.wait_until_ready()
        yield triton
    finally:
        triton.destroy()
