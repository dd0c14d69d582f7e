"""The python backend's model, in a Triton of our own making and in a real one."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import json_format
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

from models.batch import Row
from models.graph import graph_inputs
from service.export.outline import Outline
from service.export.subject import Subject
from service.export.triton_config import read_config
from tests.service.export.exporting import close, export, subject
from tests.service.triton.triton_process import TritonProcess, ready_triton
from tests.tiny_models import picture

TEXTS = ["a", "here is one that is longer, and ends with a mark!", "three words here"]
PAIRS = list(zip(TEXTS, reversed(TEXTS), strict=True))


def arrays(version: Subject, rows: Sequence[Row]) -> Mapping[str, np.ndarray]:
    """A graph's inputs, by name."""
    outline = Outline.of_version(version.version.manifest, version.stored.config)
    tensors = [tensor.numpy() for batch in version.tensors(rows) for tensor in graph_inputs(batch)]
    return {each.name: tensor for each, tensor in zip(outline.inputs, tensors, strict=True)}


# In one of our own making


@dataclass
class Tensor:
    name: str
    values: np.ndarray

    def as_numpy(self) -> np.ndarray:
        return self.values


@dataclass
class Response:
    output_tensors: list[Tensor]
    error: str | None = None


@dataclass
class Spoken:
    """What Triton's interpreter offers to a model, as far as ours asks for it."""

    Tensor: type[Tensor] = Tensor
    InferenceResponse: type[Response] = Response
    TritonError: type[str] = str
    requests: list[object] = field(default_factory=list)

    @staticmethod
    def get_input_tensor_by_name(request: Mapping[str, np.ndarray], name: str) -> Tensor:
        return Tensor(name, request[name])


@pytest.fixture
def model(tasks_on_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``letters`` as its exported model.py has it."""
    export(tasks_on_disk, "letters", "triton", tmp_path, "--backend", "python")
    offered = ModuleType("triton_python_backend_utils")
    offered.__dict__.update({name: getattr(Spoken(), name) for name in dir(Spoken) if not name.startswith("_")})
    monkeypatch.setitem(sys.modules, offered.__name__, offered)
    spec = importlib.util.spec_from_file_location("exported_model", tmp_path / "letters" / "1" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.TritonPythonModel()
    config = json_format.MessageToDict(read_config(tmp_path / "letters"), preserving_proto_field_name=True)
    found.initialize(
        {"model_config": json.dumps(config), "model_instance_kind": "CPU", "model_instance_device_id": "0"}
    )
    return found


def test_requests_that_triton_puts_together_get_an_answer_each(model: Any, tasks_on_disk: Path) -> None:
    version = subject(tasks_on_disk, "letters")
    rows = [version.predictor.preprocessor.prepare(text) for text in ("abc", "bcd", "cde")]
    first, second = model.execute([arrays(version, rows[:1]), arrays(version, rows[1:])])
    assert [each.name for each in first.output_tensors] == ["logits", "probabilities", "embedding"]
    wanted = version.predictor.predict(["abc", "bcd", "cde"])
    assert close(torch.from_numpy(first.output_tensors[1].values), wanted[:1])
    assert close(torch.from_numpy(second.output_tensors[1].values), wanted[1:])


def test_what_the_graph_refuses_is_an_error_of_each_request(model: Any, tasks_on_disk: Path) -> None:
    version = subject(tasks_on_disk, "letters")
    good = arrays(version, [version.predictor.preprocessor.prepare("abc")])
    bad = {**good, "input_ids": good["input_ids"] + 10_000}  # no such tokens
    assert [bool(each.error) for each in model.execute([bad, bad])] == [True, True]
    (answered,) = model.execute([good])
    assert answered.error is None


# In a real one


@pytest.fixture(scope="module")
def triton(
    tmp_path_factory: pytest.TempPathFactory, models_on_disk: Path, tasks_on_disk: Path
) -> Iterator[TritonProcess]:
    repository = tmp_path_factory.mktemp("triton") / "repository"
    export(models_on_disk, "colours", "triton", repository, "--backend", "python")
    for name in ("letters", "names", "likeness"):
        export(tasks_on_disk, name, "triton", repository, "--backend", "python")
    with ready_triton(repository) as process:
        yield process


def asked(client: InferenceServerClient, model: str, tensors: Mapping[str, np.ndarray], **asking: Any) -> Any:
    inputs = []
    for name, values in tensors.items():
        inputs.append(InferInput(name, list(values.shape), "UINT8" if values.dtype == np.uint8 else "INT64"))
        inputs[-1].set_data_from_numpy(values)
    return client.infer(model, inputs, **asking)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["colours", "letters", "names", "likeness"])
def test_a_real_triton_answers_like_local_predictions(
    name: str, triton: TritonProcess, models_on_disk: Path, tasks_on_disk: Path
) -> None:
    version = subject(models_on_disk if name == "colours" else tasks_on_disk, name)
    items: Sequence[Any] = [picture(seed) for seed in range(3)] if name == "colours" else TEXTS
    if version.version.manifest.pair:
        items = PAIRS
    answer = "score" if name == "likeness" else "probabilities"
    preprocessor = version.predictor.preprocessor

    def ask(some: Sequence[Any]) -> bool:
        rows = [preprocessor.prepare(item) for item in some]
        with InferenceServerClient(triton.url) as client:
            found = asked(client, name, arrays(version, rows)).as_numpy(answer)
        return close(version.vectors(torch.from_numpy(found.copy()), rows), version.predictor.predict(some))

    with ThreadPoolExecutor(4) as pool:  # some of which Triton computes together
        assert all(pool.map(ask, [[items[0]], items, *([item] for item in items), items[1:]]))


@pytest.mark.slow
def test_a_real_triton_knows_the_labels(triton: TritonProcess, tasks_on_disk: Path) -> None:
    version = subject(tasks_on_disk, "letters")
    tensors = arrays(version, [version.predictor.preprocessor.prepare("abc")])
    with InferenceServerClient(triton.url) as client:
        wanted = InferRequestedOutput("probabilities", class_count=1)
        ((best,),) = asked(client, "letters", tensors, outputs=[wanted]).as_numpy("probabilities")
    (scores,) = version.predictor.predict(["abc"]).tolist()
    assert best.decode().split(":")[2] == version.predictor.labels[scores.index(max(scores))]


@pytest.mark.slow
def test_a_real_triton_gives_the_features_of_a_backbone(triton: TritonProcess, tasks_on_disk: Path) -> None:
    version = subject(tasks_on_disk, "names")
    preprocessor = version.predictor.preprocessor
    batch = preprocessor.collate([preprocessor.prepare(text) for text in TEXTS])
    names = ("input_ids", "token_type_ids", "attention_mask")
    tensors = {name: each.numpy() for name, each in zip(names, graph_inputs(batch), strict=True)}
    with InferenceServerClient(triton.url) as client:
        found = asked(client, f"backbone-{version.stored.digest[:16]}-tokens", tensors).as_numpy("features")
    wanted = version.predictor.engine.features(batch, version.kind)
    assert wanted.mask_BT is not None
    assert close(torch.from_numpy(found.copy())[wanted.mask_BT == 1], wanted.values[wanted.mask_BT == 1])
