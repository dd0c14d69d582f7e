"""What a key must allow for each method of gRPC; a method that is not here does not exist."""

from __future__ import annotations

from collections.abc import Mapping

from service.auth.key import Scope

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
# The later name of reflection has the same messages; clients try it first.
REFLECTION = ("grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection")

MODEL_INFER = f"/{INFERENCE}/ModelInfer"

SCOPES: Mapping[str, Scope | None] = {
    f"/{INFERENCE}/ServerLive": None,
    f"/{INFERENCE}/ServerReady": None,
    f"/{INFERENCE}/ModelReady": Scope.METADATA,
    f"/{INFERENCE}/ServerMetadata": Scope.METADATA,
    f"/{INFERENCE}/ModelMetadata": Scope.METADATA,
    f"/{INFERENCE}/ModelConfig": Scope.METADATA,
    f"/{INFERENCE}/ModelStatistics": Scope.METADATA,
    MODEL_INFER: Scope.PREDICT,
    f"/{INFERENCE}/ModelStreamInfer": Scope.PREDICT,
    f"/{INFERENCE}/RepositoryIndex": Scope.METADATA,
    f"/{INFERENCE}/RepositoryModelLoad": Scope.ADMIN,
    f"/{INFERENCE}/RepositoryModelUnload": Scope.ADMIN,
    f"/{INFERENCE}/SystemSharedMemoryStatus": Scope.METADATA,
    f"/{INFERENCE}/SystemSharedMemoryRegister": Scope.METADATA,
    f"/{INFERENCE}/SystemSharedMemoryUnregister": Scope.METADATA,
    f"/{INFERENCE}/CudaSharedMemoryStatus": Scope.METADATA,
    f"/{INFERENCE}/CudaSharedMemoryRegister": Scope.METADATA,
    f"/{INFERENCE}/CudaSharedMemoryUnregister": Scope.METADATA,
    f"/{INFERENCE}/TraceSetting": Scope.METADATA,
    f"/{INFERENCE}/LogSettings": Scope.METADATA,
    # Whoever asks for one model by its name has to be let in like whoever calls ModelReady: `service.api.oip.grpc_health`.
    f"/{HEALTH}/Check": None,
    f"/{HEALTH}/Watch": None,
    **{f"/{name}/ServerReflectionInfo": Scope.METADATA for name in REFLECTION},
}
