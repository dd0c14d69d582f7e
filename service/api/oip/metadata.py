"""What a server and its models say of themselves, as JSON documents; gRPC's messages have the same members."""

from __future__ import annotations

from typing import Any, TypeAlias

from models.signature import TensorSpec
from models.version_policy import VersionPolicy
from service.api.catalog_model import CatalogModel, CatalogVersion

Document: TypeAlias = dict[str, Any]

NAME = "graftwork"
LEVELS = 3  # of priority: urgent, usual, in the background
EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "schedule_policy",
    "statistics",
]


def server_metadata(version: str) -> Document:
    """The server's name and version, and which extensions of the protocol it has."""
    return {"name": NAME, "version": version, "extensions": EXTENSIONS}


def model_metadata(model: CatalogModel, entry: CatalogVersion) -> Document:
    """A model's versions that are served, and the tensors of the one that is asked for."""
    signature = entry.signature
    return {
        "name": entry.name,
        "versions": [str(number) for number, each in sorted(model.versions.items()) if each.is_served],
        "platform": NAME,
        "inputs": [_metadata(spec) for spec in signature.inputs],
        "outputs": [_metadata(spec) for spec in signature.outputs],
    }


def _metadata(spec: TensorSpec) -> Document:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def model_config(model: CatalogModel, entry: CatalogVersion, *, max_rows: int) -> Document:
    """A model's configuration, as Triton's ``ModelConfig`` has it.

    Args:
        max_rows: of one request.
    """
    signature = entry.signature
    return {
        "name": entry.name,
        "platform": "",
        "backend": NAME,
        "version_policy": _policy(model.deployment.policy),
        "max_batch_size": max_rows,
        "input": [_config(spec) | ({"optional": True} if signature.alternatives else {}) for spec in signature.inputs],
        "output": [_config(spec) for spec in signature.outputs],
        "dynamic_batching": {"priority_levels": LEVELS, "default_priority_level": 2},
    }


def _config(spec: TensorSpec) -> Document:
    """Without the axis of rows; a tensor that has no other one has one of length 1."""
    datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": list(spec.shape[1:]) or [1]}


def _policy(policy: VersionPolicy) -> Document:
    if policy.numbers is not None:
        return {"specific": {"versions": list(policy.numbers)}}
    return {"all": {}} if policy.latest is None else {"latest": {"num_versions": policy.latest}}
