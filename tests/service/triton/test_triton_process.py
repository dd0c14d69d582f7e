from __future__ import annotations

from pathlib import Path

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput

from tests.service.triton.triton_process import TritonProcess, ready_triton

DOUBLING = """
import numpy
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        values = [triton.get_input_tensor_by_name(each, "value").as_numpy() for each in requests]
        return [triton.InferenceResponse([triton.Tensor("double", 2 * value)]) for value in values]
"""
CONFIG = """
name: "doubling"
backend: "python"
max_batch_size: 8
input [{ name: "value" data_type: TYPE_FP32 dims: [-1] }]
output [{ name: "double" data_type: TYPE_FP32 dims: [-1] }]
instance_group [{ kind: KIND_CPU }]
"""


def double(triton: TritonProcess, values_BN: np.ndarray) -> np.ndarray:
    tensor = InferInput("value", list(values_BN.shape), "FP32")
    tensor.set_data_from_numpy(values_BN)
    with InferenceServerClient(triton.url) as client:
        found: np.ndarray = client.infer("doubling", [tensor]).as_numpy("double")
        return found


def test_a_real_triton_computes_with_the_packages_of_its_environment_and_comes_back_after_a_kill(
    tmp_path: Path,
) -> None:
    (tmp_path / "doubling" / "1").mkdir(parents=True)
    (tmp_path / "doubling" / "config.pbtxt").write_text(CONFIG)
    (tmp_path / "doubling" / "1" / "model.py").write_text(DOUBLING)
    values_BN = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)
    with ready_triton(tmp_path) as triton:
        assert np.array_equal(double(triton, values_BN), 2 * values_BN)
        triton.kill()
        assert not triton.is_ready()
        triton.restart()
        assert np.array_equal(double(triton, values_BN), 2 * values_BN)
