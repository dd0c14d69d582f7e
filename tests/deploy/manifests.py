"""The files of deploy/kubernetes, as documents, and what is asked of them."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

Document: TypeAlias = Mapping[str, Any]

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
BUILT = ("overlays/cpu", "overlays/gpu", "overlays/triton", "finetune-job")
PROGRAMS = (("kustomize", "build"), ("kubectl", "kustomize"))


def documents(text: str) -> Sequence[Document]:
    return [document for document in yaml.safe_load_all(text) if document is not None]


def read(folder: str) -> Sequence[Document]:
    """What is applied of a folder as it is written, without patches and kustomization."""
    (kustomization,) = documents((KUBERNETES / folder / "kustomization.yaml").read_text())
    files = [name for name in kustomization["resources"] if name.endswith(".yaml")]
    return [document for name in files for document in documents((KUBERNETES / folder / name).read_text())]


@functools.cache
def _built(folder: str) -> Sequence[Document] | None:
    for program, command in PROGRAMS:
        if shutil.which(program) is not None:
            done = subprocess.run([program, command, str(KUBERNETES / folder)], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert not done.stderr, done.stderr  # it warns of fields that are going away
            return documents(done.stdout)
    return None


def built(folder: str) -> Sequence[Document]:
    """What a cluster is given."""
    found = _built(folder)
    if found is None:
        pytest.skip("needs kustomize, or kubectl 1.27 or newer")
    return found


def of_kind(kind: str, among: Sequence[Document]) -> Sequence[Document]:
    return [document for document in among if document["kind"] == kind]


def named(kind: str, name: str, among: Sequence[Document]) -> Document:
    (found,) = (document for document in of_kind(kind, among) if document["metadata"]["name"] == name)
    return found


def pod_templates(among: Sequence[Document]) -> Mapping[str, Document]:
    """By the names of what makes such pods."""
    makers = [document for document in among if document["kind"] in ("Deployment", "Job")]
    return {document["metadata"]["name"]: document["spec"]["template"] for document in makers}


def containers(template: Document) -> Sequence[Document]:
    """Those that start first, and the others."""
    return [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]


def main_container(template: Document) -> Document:
    (found,) = template["spec"]["containers"]
    container: Document = found
    return container


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Of ``matchLabels``, or of labels alone."""
    wanted = selector.get("matchLabels", selector)
    return all(labels.get(name) == value for name, value in wanted.items())


def policies_of(template: Document, among: Sequence[Document], direction: str) -> Iterator[Document]:
    """The network policies that hold for a pod in one direction: ``Ingress`` or ``Egress``."""
    for policy in of_kind("NetworkPolicy", among):
        spec = policy["spec"]
        if direction in spec["policyTypes"] and selects(spec["podSelector"], template["metadata"]["labels"]):
            yield policy
