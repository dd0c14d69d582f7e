"""What Triton is told, read again by its own protobuf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from models.errors import InvalidParameter
from service.export.outline import Outline
from service.export.triton_config import CONFIG, TritonModel, interface, read_config
from service.triton.backbone_model import TensorSpec

OUTLINE = Outline(
    inputs=[
        TensorSpec(name="input_ids", datatype="INT64", dims=(-1,)),
        TensorSpec(name="attention_mask", datatype="INT64", dims=(-1,)),
    ],
    outputs=[
        TensorSpec(name="probabilities", datatype="FP32", dims=(5,)),
        TensorSpec(name="embedding", datatype="FP32", dims=(16,)),
    ],
)
MODEL = TritonModel(
    name="flowers",
    outline=OUTLINE,
    backend="onnxruntime",
    label_output="probabilities",
    parameters={"graftwork_backbone": "0123"},
)


def parsed(directory: Path) -> Any:
    return text_format.Parse((directory / CONFIG).read_text(), model_config_pb2.ModelConfig())


def test_a_config_is_what_tritons_own_protobuf_reads(tmp_path: Path) -> None:
    MODEL.write(tmp_path / "flowers")
    config = parsed(tmp_path / "flowers")
    assert (config.name, config.backend, config.max_batch_size) == ("flowers", "onnxruntime", 64)
    assert [(each.name, each.data_type, list(each.dims)) for each in config.input] == [
        ("input_ids", model_config_pb2.TYPE_INT64, [-1]),
        ("attention_mask", model_config_pb2.TYPE_INT64, [-1]),
    ]
    assert [(each.name, list(each.dims), each.label_filename) for each in config.output] == [
        ("probabilities", [5], "labels.txt"),
        ("embedding", [16], ""),
    ]
    assert config.version_policy.WhichOneof("policy_choice") == "all"
    assert config.parameters["graftwork_backbone"].string_value == "0123"
    assert [group.kind for group in config.instance_group] == [model_config_pb2.ModelInstanceGroup.KIND_AUTO]


def test_requests_share_batches_for_a_moment_and_are_refused_when_their_time_is_over(tmp_path: Path) -> None:
    MODEL.write(tmp_path / "flowers")
    batching = parsed(tmp_path / "flowers").dynamic_batching
    assert list(batching.preferred_batch_size) == [8, 16, 32]
    assert 0 < batching.max_queue_delay_microseconds <= 1000
    policy = batching.default_queue_policy
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert policy.allow_timeout_override
    assert policy.default_timeout_microseconds == 30_000_000
    assert policy.max_queue_size > 0


def test_a_warm_up_masks_nothing(tmp_path: Path) -> None:
    MODEL.write(tmp_path / "flowers")
    warm_ups = parsed(tmp_path / "flowers").model_warmup
    assert [each.batch_size for each in warm_ups] == [1, 32]
    for each in warm_ups:
        assert each.inputs["input_ids"].zero_data
        mask = each.inputs["attention_mask"]
        data = (tmp_path / "flowers" / "warmup" / mask.input_data_file).read_bytes()
        assert data == (1).to_bytes(8, "little") * mask.dims[0]


def test_what_somebody_tuned_is_read_and_what_goes_in_and_out_told(tmp_path: Path) -> None:
    assert read_config(tmp_path / "flowers") is None
    MODEL.write(tmp_path / "flowers")
    file = tmp_path / "flowers" / CONFIG
    file.write_text(file.read_text().replace("max_batch_size: 64", "max_batch_size: 8"))
    config = read_config(tmp_path / "flowers")
    assert config.max_batch_size == 8
    assert interface(config) == interface(MODEL.config())
    file.write_text(file.read_text().replace("dims: 5", "dims: 6"))
    assert interface(read_config(tmp_path / "flowers")) != interface(MODEL.config())


def test_a_config_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    (tmp_path / "flowers" / CONFIG).write_text("max_batch_size: many")
    with pytest.raises(InvalidParameter, match=r"config.pbtxt of flowers cannot be read"):
        read_config(tmp_path / "flowers")
