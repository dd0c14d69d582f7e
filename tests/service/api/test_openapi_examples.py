"""Every example of the OpenAPI document, sent to a real server, and its answer compared with the one that is documented."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from finetune.importing import import_checkpoint
from models.aliases import promote
from models.repository import ModelRepository
from models.version import Reference
from tests.server_process import Reply, ServerProcess, ready_server
from tests.service.api.described import DOCUMENT, resolve, validator
from tests.tiny_models import TorchEngines, picture, publish_texts

# Operations that change what others ask: sent after them, in this order, in which each finds what its example is of.
CHANGES = (
    *("promote", "rollback", "keep", "unalias", "delete"),
    *("v2_repository_load", "v2_repository_unload"),
)
# Objects whose keys are data: those of the answer need not be those of the example.
KEYED_BY_DATA = ("aliases", "files", "heads", "libraries", "metrics", "scores", "settings")
RAW = {
    "image/jpeg",
    "image/png",
    "image/webp",
    "application/octet-stream",
}  # bytes as they are, which no document can hold


@dataclass(frozen=True, kw_only=True)
class Example:
    """A request that is made of the examples of one name, and the answer that is documented for it."""

    operation: str
    name: str
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None
    responses: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.operation}: {self.method} {self.target} {self.headers.get('Content-Type', '')} ({self.name})"


def operations() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def examples_of(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[Example]:
    parameters = [resolve(reference) for reference in operation["parameters"]]
    for name in names(parameters, operation.get("requestBody", {})):
        target, headers = place(path, parameters, name)
        for media_type, body in bodies(operation.get("requestBody", {}), name):
            yield Example(
                operation=operation["operationId"],
                name=name,
                method=method.upper(),
                target=target,
                headers=headers | ({"Content-Type": media_type} if media_type else {}),
                body=body,
                responses=operation["responses"],
            )


def names(parameters: Sequence[Mapping[str, Any]], body: Mapping[str, Any]) -> Sequence[str]:
    """Of the examples that make a whole request: those that everything has that is required."""
    required = [list(parameter["examples"]) for parameter in parameters if parameter.get("required")]
    if body.get("required"):
        required.append(names_in(body))
    found = [name for name in required[0] if all(name in each for each in required)] if required else ["texts"]
    assert found, "no example has all that is required"
    assert set(found) >= set(names_in(body)), "an example of the body makes no whole request"
    return found


def names_in(body: Mapping[str, Any]) -> list[str]:
    contents = body.get("content", {})
    found = [name for content in contents.values() for name in content.get("examples", {})]
    return found + (["images"] if RAW & contents.keys() else [])


def place(path: str, parameters: Sequence[Mapping[str, Any]], name: str) -> tuple[str, dict[str, str]]:
    """Path, query and headers with the examples of a name in them."""
    query, headers = {}, {}
    for parameter in parameters:
        if name not in parameter["examples"]:
            continue
        value = parameter["examples"][name]["value"]
        text = value if isinstance(value, str) else json.dumps(value)
        match parameter["in"]:
            case "path":
                path = path.replace(f"{{{parameter['name']}}}", quote(text, safe="/"))
            case "query":
                query[parameter["name"]] = text
            case "header":
                headers[parameter["name"]] = text
    return path + ("?" + urlencode(query) if query else ""), headers


def bodies(body: Mapping[str, Any], name: str) -> Iterator[tuple[str, bytes | None]]:
    """Those of a name, with their media types."""
    if name not in names_in(body):
        yield "", None
    for media_type, content in body.get("content", {}).items():
        if name in content.get("examples", {}):
            value = content["examples"][name]["value"]
            if media_type == "multipart/form-data":
                part = '--limit\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
                form = "".join(part.format(*each) for each in value.items()) + "--limit--\r\n"
                yield f"{media_type}; boundary=limit", form.encode()
            else:
                yield media_type, (value if media_type == "text/plain" else json.dumps(value)).encode()
        elif name == "images" and media_type in RAW:
            file_format = media_type.removeprefix("image/") if media_type.startswith("image/") else "png"
            yield media_type, picture(1, file_format=file_format)


def differences(documented: Any, found: Any, where: str = "") -> Iterator[str]:
    """Where an answer has other members or types than the example; null may stand for anything, as the schema has allowed it."""
    if documented is None or found is None:
        return
    if isinstance(documented, dict) and isinstance(found, dict):
        if where.rpartition("/")[2] in KEYED_BY_DATA:
            documented, found = list(documented.values()), list(found.values())
        elif documented.keys() != found.keys():
            yield f"{where}: {sorted(documented)} are documented, not {sorted(found)}"
            return
        else:
            for key in found:
                yield from differences(documented[key], found[key], f"{where}/{key}")
            return
    if isinstance(documented, list) and isinstance(found, list):
        for number, item in enumerate(found):
            every = [list(differences(each, item, f"{where}/{number}")) for each in documented]
            if [] not in every:
                yield from min(every, key=len, default=[f"{where}: nothing is documented of what is in it"])
    elif kind(documented) is not kind(found):
        yield f"{where}: {documented!r} is documented, not {found!r}"


def kind(value: object) -> type:
    return float if type(value) is int else type(value)


def check_answer(reply: Reply, example: Example) -> None:
    status = str(reply.status)
    # A part of a protocol that is left out is documented with its error only.
    assert status == ("200" if "200" in example.responses else "501"), (str(example), reply.body)
    media_type = reply.headers["content-type"].partition(";")[0]
    content = example.responses[status]["content"][media_type]
    assert reply.headers["x-request-id"] == example.headers.get("X-Request-Id", reply.headers["x-request-id"])
    if not content:  # bytes, which begin with JSON
        size = int(reply.headers["inference-header-content-length"])
        assert json.loads(reply.body[:size])["model_name"] == "flowers"
        return
    found = reply.body.decode() if media_type.startswith("text/") else reply.json()
    validator(content["schema"]).validate(found)
    if example.operation == "openapi":  # itself, of which the example has the outline
        assert found["openapi"] == content["examples"]["texts"]["value"]["openapi"]
        return
    assert list(differences(answer_to(example, content), found)) == [], str(example)


def answer_to(example: Example, content: Mapping[str, Any]) -> Any:
    """The documented answer of the request's own name, or the only one."""
    if "example" in content:
        return content["example"]
    documented = content["examples"]
    only = next(iter(documented.values())) if len(documented) == 1 else None
    assert example.name in documented or only, f"{example}: there is no answer of this name"
    return documented.get(example.name, only)["value"]


@pytest.fixture(scope="module")
def documented_server(
    tmp_path_factory: pytest.TempPathFactory, tiny_vision: str, tiny_text: str
) -> Iterator[ServerProcess]:
    """A server of the models that the examples ask, two versions each, where everything may be changed."""
    repository = ModelRepository(tmp_path_factory.mktemp("documented") / "repository")
    for seed in (1, 2):
        import_checkpoint(repository, tiny_vision, "flowers", TorchEngines())
        publish_texts(repository, tiny_text, "intents", ("lost_card", "arrival"), seed=seed)
        publish_texts(repository, tiny_text, "duplicates", ("yes", "no"), seed=seed, pair="separate")
    for name in ("flowers", "intents", "duplicates"):
        promote(repository, Reference(name=name, number=1), "champion")
    everything = ("--admin", "--model-control", "explicit", "--load-model", "*", "--tei-model", "intents")
    with ready_server(repository.root, *everything, "--engine", "torch") as server:
        yield server


def test_the_server_takes_every_example_and_answers_as_documented(documented_server: ServerProcess) -> None:
    every = {each[2]["operationId"]: list(examples_of(*each)) for each in operations()}
    assert all(every.values())
    order = [name for name in every if name not in CHANGES] + list(CHANGES)
    assert sorted(order) == sorted(every)
    for name in order:
        for example in every[name]:
            reply = documented_server.request(example.method, example.target, example.body, example.headers)
            check_answer(reply, example)


def test_every_operation_that_changes_something_has_its_place_in_that_order() -> None:
    changing = {
        operation["operationId"] for _, _, operation in operations() if "`admin`" in operation.get("description", "")
    }
    assert changing == set(CHANGES)


def test_every_good_answer_has_an_example() -> None:
    for _, _, operation in operations():
        for status, response in operation["responses"].items():
            for media_type, content in response["content"].items():
                assert not content or content.get("examples") or status != "200", (operation["operationId"], media_type)


def test_every_example_of_a_parameter_is_sent() -> None:
    used: dict[str, set[str]] = {}
    for path, method, operation in operations():
        for example in examples_of(path, method, operation):
            for reference in operation["parameters"]:
                used.setdefault(reference["$ref"].rpartition("/")[2], set()).add(example.name)
    for name, parameter in DOCUMENT["components"]["parameters"].items():
        assert used[name] >= set(parameter["examples"]), name


@pytest.mark.parametrize(
    ("documented", "found"),
    [
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"a": 1}),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1}, {"c": 1}]}),
        ({"a": []}, {"a": [1]}),
        ({"scores": {"red": 0.5}}, {"scores": {"green": "x"}}),
        ([1], {"a": 1}),
    ],
)
def test_an_answer_of_another_shape_is_noticed(documented: Any, found: Any) -> None:
    assert list(differences(documented, found))


@pytest.mark.parametrize(
    ("documented", "found"),
    [
        ({"a": 1}, {"a": 2.5}),
        ({"a": {"b": 1}}, {"a": None}),
        ({"a": [{"b": 1}, {"c": 1}]}, {"a": [{"c": 2}]}),
        ({"scores": {"red": 0.5}}, {"scores": {"green": 0.1, "blue": 0.2}}),
    ],
)
def test_an_answer_of_the_same_shape_passes(documented: Any, found: Any) -> None:
    assert list(differences(documented, found)) == []


def test_an_operation_without_an_example_is_noticed() -> None:
    parameters = [{"required": True, "examples": {"texts": {}}}, {"required": True, "examples": {}}]
    with pytest.raises(AssertionError, match="no example has all"):
        names(parameters, {})
    with pytest.raises(AssertionError, match="no whole request"):
        names(parameters[:1], {"content": {"application/json": {"examples": {"other": {}}}}})
    with pytest.raises(AssertionError, match="no example has all"):
        names([], {"required": True, "content": {"application/json": {}}})
