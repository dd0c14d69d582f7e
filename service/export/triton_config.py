"""``config.pbtxt``: what Triton is told of a model, through its own protobuf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from models import storage
from models.errors import InvalidParameter
from service.export.labels import LABELS
from service.export.outline import Outline
from service.triton.backbone_model import TensorSpec

Backend: TypeAlias = Literal["onnxruntime", "python"]

CONFIG = "config.pbtxt"
MAX_BATCH_SIZE = 64  # more rows at a time win nothing in any backbone that was measured
PREFERRED_BATCH_SIZES = (8, 16, 32)
MAX_QUEUE_DELAY_MICROSECONDS = 500  # a fraction of what one row takes
DEFAULT_TIMEOUT_MICROSECONDS = 30_000_000  # as long as our own server lets a request wait
MAX_QUEUE_SIZE = 256
WARM_UP_TOKENS = 16
_QUEUE_POLICY: Mapping[str, Any] = {
    "timeout_action": "REJECT",
    "default_timeout_microseconds": DEFAULT_TIMEOUT_MICROSECONDS,
    "allow_timeout_override": True,
    "max_queue_size": MAX_QUEUE_SIZE,
}
ONES = "ones"  # a file in the folder ``warmup``: a mask that hides nothing


@dataclass(frozen=True, kw_only=True)
class TritonModel:
    """A model of Triton.

    Attributes:
        label_output: the output whose classes `LABELS` names; none for others.
        delay_microseconds: how long a request may wait for others to share its batch.
        parameters: strings by name.
    """

    name: str
    outline: Outline
    backend: Backend
    label_output: str | None = None
    delay_microseconds: int = MAX_QUEUE_DELAY_MICROSECONDS
    parameters: Mapping[str, str] = field(default_factory=dict)

    def config(self) -> Any:
        """The ``ModelConfig`` of Triton's protobuf."""
        from google.protobuf import json_format
        from tritonclient.grpc import model_config_pb2

        # By names, since the generated classes have no types.
        return json_format.ParseDict(self._document(), model_config_pb2.ModelConfig())

    def write(self, directory: Path) -> None:
        """Writes `CONFIG`, and what a warm-up reads."""
        from google.protobuf import text_format

        storage.make_directory(directory)
        storage.write_file(directory / CONFIG, text_format.MessageToString(self.config()).encode())
        if any(each.datatype == "INT64" for each in self.outline.inputs):
            storage.make_directory(directory / "warmup")
            storage.write_file(directory / "warmup" / ONES, (1).to_bytes(8, "little") * WARM_UP_TOKENS)

    def _document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "backend": self.backend,
            "max_batch_size": MAX_BATCH_SIZE,
            "input": [_tensor(each) for each in self.outline.inputs],
            "output": [
                _tensor(each) | ({"label_filename": LABELS} if each.name == self.label_output else {})
                for each in self.outline.outputs
            ],
            "version_policy": {"all": {}},
            "instance_group": [{"kind": "KIND_AUTO", "count": 1}],  # one for each GPU, or one on the CPU
            "dynamic_batching": {
                "preferred_batch_size": PREFERRED_BATCH_SIZES,
                "max_queue_delay_microseconds": self.delay_microseconds,
                # With a policy and without a delay, what arrives while something else is computed waits for 0.5 s (Triton 2.51).
                **({"default_queue_policy": _QUEUE_POLICY} if self.delay_microseconds else {}),
            },
            "model_warmup": [
                {
                    "name": f"rows-{rows}",
                    "batch_size": rows,
                    "inputs": {each.name: _warm_up(each) for each in self.outline.inputs},
                }
                for rows in (1, max(PREFERRED_BATCH_SIZES))
            ],
            "parameters": {name: {"string_value": value} for name, value in self.parameters.items()},
        }


def read_config(directory: Path) -> Any:
    """The ``ModelConfig`` of a model's directory; None where there is none.

    Raises:
        InvalidParameter: it cannot be read.
    """
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    try:
        text = storage.read_file(directory / CONFIG).decode()
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, text_format.ParseError):
        raise InvalidParameter(f"the {CONFIG} of {directory.name} cannot be read; name another directory") from None


def interface(config: Any) -> Sequence[tuple[str, str, Sequence[int]]]:
    """What goes in and out by a config: names, types and dims. Triton has one for all versions of a model."""
    return [(each.name, each.data_type, list(each.dims)) for each in (*config.input, *config.output)]


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": f"TYPE_{spec.datatype}", "dims": spec.dims}


def _warm_up(spec: TensorSpec) -> dict[str, Any]:
    dims = [WARM_UP_TOKENS if size == -1 else size for size in spec.dims]
    contents = {"input_data_file": ONES} if spec.name.endswith("attention_mask") else {"zero_data": True}
    return {"data_type": f"TYPE_{spec.datatype}", "dims": dims, **contents}
