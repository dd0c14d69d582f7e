"""A request of one of TEI's routes: what its document says, and who is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from models.errors import EmptyText, InvalidDocument, InvalidInstances, InvalidParameter, TooManyInstances
from models.manifest import Manifest
from service.api.body import parse_json
from service.api.embedding_request import MOST_INPUTS
from service.api.inference import Question
from service.api.tei.model import ModelKind

Document: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TeiRequest:
    """One on its way.

    Attributes:
        document: its body.
        question: its way to the workers.
        kind: of the model.
    """

    document: Document
    question: Question
    kind: ModelKind

    @property
    def manifest(self) -> Manifest:
        """The model's."""
        return self.question.version.manifest


def read_object(body: bytes) -> Document:
    """The body; raises as `parse_json`, and `InvalidDocument` where it is no object."""
    document = parse_json(body)
    if not isinstance(document, dict):
        raise InvalidDocument('the body must be a JSON object, such as {"inputs": ...}')
    return document


def member(document: Document, name: str) -> Any:
    """A member that must be there."""
    if name not in document:
        raise InvalidDocument(f"'{name}' must be there", parameter=name)
    return document[name]


def flag(document: Document, name: str, *, default: bool = False) -> bool:
    """A member that is true or false; the default where it is null or not there."""
    value = document.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidParameter(f"'{name}' must be true or false", parameter=name)
    return value


def parameters(document: Document) -> Document:
    """The member of this name, in which the hub's own clients put what they ask beside the inputs."""
    value = document.get("parameters")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidParameter("'parameters' must be an object", parameter="parameters")
    return value


def read_truncate(document: Document) -> bool:
    """Whether a text that is too long is cut.

    Raises:
        InvalidParameter: it is to be cut at its start, or to begin with a prompt: no model here has any.
    """
    if document.get("prompt_name") is not None:
        raise InvalidParameter(
            "no model here has prompts; leave out 'prompt_name', and put the prompt before the text",
            parameter="prompt_name",
        )
    direction = document.get("truncation_direction")
    if direction is not None and not (isinstance(direction, str) and direction.lower() == "right"):
        raise InvalidParameter(
            "texts are cut at their end only; leave out 'truncation_direction', or send \"right\"",
            parameter="truncation_direction",
        )
    return flag(document, "truncate")


def read_text(document: Document, name: str) -> str:
    """A member that is a text."""
    value = member(document, name)
    if not isinstance(value, str):
        raise InvalidInstances(f"'{name}' must be a string", parameter=name)
    return value


def read_texts(document: Document, name: str) -> Sequence[str]:
    """A member that is a list of texts."""
    value = member(document, name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidInstances(f"'{name}' must be an array of strings", parameter=name)
    check_count(value, name)
    return value


def check_count(value: Sequence[object], name: str) -> None:
    """Raises `EmptyText` where a list is empty, `TooManyInstances` where it is too long."""
    if not value:
        raise EmptyText(f"'{name}' is empty; send at least one text", parameter=name)
    if len(value) > MOST_INPUTS:
        raise TooManyInstances(
            f"'{name}' has {len(value):,} texts, over the limit of {MOST_INPUTS:,}; send several requests",
            parameter=name,
        )
