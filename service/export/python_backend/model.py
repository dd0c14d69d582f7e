"""Runs model.onnx, which lies beside this file, with ONNX Runtime: for a Triton that has the python backend only.

Triton's interpreter needs onnxruntime, and a numpy below 2 where its python backend was built with one: with numpy 2 its outputs
come back empty. Where they are not installed in that interpreter, GRAFTWORK_TRITON_PACKAGES names a folder that has both.
"""

import json
import os
import sys
from pathlib import Path

if os.environ.get("GRAFTWORK_TRITON_PACKAGES"):
    sys.path.insert(0, os.environ["GRAFTWORK_TRITON_PACKAGES"])

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args):
        """Reads the graph, onto the GPU where the instance is one's and ONNX Runtime has it, else onto the CPU."""
        config = json.loads(args["model_config"])
        self.inputs = [each["name"] for each in config["input"]]
        self.outputs = [each["name"] for each in config["output"]]
        providers = ["CPUExecutionProvider"]
        if args["model_instance_kind"] == "GPU" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(args["model_instance_device_id"])}))
        graph = Path(__file__).with_name("model.onnx")
        self.session = onnxruntime.InferenceSession(str(graph), providers=providers)

    def execute(self, requests):
        """Answers requests that Triton has put together, as one batch: their tensors differ in the number of rows only."""
        tensors = [
            [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs]
            for request in requests
        ]
        try:
            inputs = {name: np.concatenate([own[index] for own in tensors]) for index, name in enumerate(self.inputs)}
            found = self.session.run(self.outputs, inputs)
        except Exception as error:
            failure = pb_utils.TritonError(str(error))
            return [pb_utils.InferenceResponse(output_tensors=[], error=failure) for _ in requests]
        responses = []
        start = 0
        for own in tensors:
            end = start + len(own[0])
            outputs = [
                pb_utils.Tensor(name, np.ascontiguousarray(found[index][start:end]))
                for index, name in enumerate(self.outputs)
            ]
            responses.append(pb_utils.InferenceResponse(output_tensors=outputs))
            start = end
        return responses
