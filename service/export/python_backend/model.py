"""Runs model.onnx, which lies beside this file, with ONNX Runtime: for a Triton that has the python backend only.

The interpreter of that backend needs onnxruntime, and numpy; where the backend was built with numpy 1, a numpy below 2, as its
outputs come back empty otherwise. It is the first python3 in the PATH that Triton was started with.
"""

import json
from pathlib import Path

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
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", "0"
        )  # idle, it leaves the cores to other models
        graph = Path(__file__).with_name("model.onnx")
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=providers)

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
