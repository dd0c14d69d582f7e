"""Asks a service, or several replicas of one, from Python: `Client`, and `AsyncClient` with the same methods."""

from service.client.async_client import AsyncClient
from service.client.client import Client
from service.client.embeddings import Embeddings
from service.client.items import Item
from service.client.predictions import (
    Entities,
    Entity,
    Features,
    MultiLabel,
    Prediction,
    Predictions,
    SingleLabel,
    Value,
)
from service.client.status import ModelStatus, VersionStatus

__all__ = [
    "AsyncClient",
    "Client",
    "Embeddings",
    "Entities",
    "Entity",
    "Features",
    "Item",
    "ModelStatus",
    "MultiLabel",
    "Prediction",
    "Predictions",
    "SingleLabel",
    "Value",
    "VersionStatus",
]
