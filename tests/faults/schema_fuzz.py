"""Requests that follow the OpenAPI document, and requests that break it in one place, by schemathesis."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from service.api.openapi import openapi_document
from tests.faults.byte_fuzz import PICTURES
from tests.faults.fuzz_result import BY_POLICY, GRACE_SECONDS, NOT_SUPPORTED, FuzzResult
from tests.faults.mutation import mutated

ROUND = 500  # requests of one route that are kept in memory
LEFT_OUT = "^/v2/(.*memory|.*trace|logging)"  # all of which are answered by the same line
PREDICTIONS = "(:predict|/infer)$"  # paths that get most of the requests

CHECKS: dict[str, Any] = {
    "enabled": False,
    "not_a_server_error": {
        "enabled": True,
        "expected-statuses": ["2xx", "4xx", *map(str, (*BY_POLICY, NOT_SUPPORTED))],
    },
    "status_code_conformance": {"enabled": True},
    "content_type_conformance": {"enabled": True},
    "response_schema_conformance": {"enabled": True},
    "response_headers_conformance": {"enabled": True},
    "unsupported_method": {"enabled": True},
}


def schema_fuzz(server_url: str, cases: int, models: Sequence[str], aliases: Sequence[str], result: FuzzResult) -> None:
    """Sends about so many requests; the first round also has every example and every limit of the document (some 600).

    Args:
        server_url: such as ``http://127.0.0.1:8000``.
        cases: how many.
        models: that exist.
        aliases: that any of them has.
        result: where the answers are counted.
    """
    for picture_type in ("image/png", "image/jpeg", "image/webp", "application/octet-stream"):
        schemathesis.openapi.media_type(picture_type, st.integers().map(_odd_picture))
    document = openapi_document("0")
    # The document says how names look; most requests shall get further than to a name that is not there.
    known = {
        "name": [*models, "nobody"],
        "number": [1, 2],
        "alias": [*aliases, "nowhere"],
        "version": ["1", "2", *aliases, "nowhere"],
    }
    parameters = document["components"]["parameters"]
    parameters = {
        name: parameter | {"schema": {"enum": known[name]}} if name in known else parameter
        for name, parameter in parameters.items()
    }
    document["components"] = {**document["components"], "parameters": parameters}
    predictions = sum(re.search(PREDICTIONS, path) is not None for path in document["paths"])
    most = max(1, cases // (predictions + 1))  # for each route of predictions; as many for all the others
    for number, start in enumerate(range(0, most, ROUND)):
        _run(server_url, document, min(ROUND, most - start), number, result)


def _run(server_url: str, document: dict[str, Any], examples: int, number: int, result: FuzzResult) -> None:
    others = sum(map(len, document["paths"].values()))
    config = SchemathesisConfig.from_dict(
        {
            "base-url": server_url,
            "seed": result.seed + number,
            "request-timeout": result.deadline + GRACE_SECONDS,
            "continue-on-failure": True,
            "generation": {"max-examples": max(1, examples // others), "database": "none", "no-shrink": True},
            "operations": [
                {"include-path-regex": PREDICTIONS, "generation": {"max-examples": examples}},
                {"include-path-regex": LEFT_OUT, "phases": {"coverage": {"enabled": False}}},
            ],
            "phases": {
                "examples": {"enabled": number == 0},
                "coverage": {"enabled": number == 0},
                "stateful": {"enabled": False},
            },
            "checks": CHECKS,
        }
    )
    for event in from_schema(schemathesis.openapi.from_dict(document, config=config)).execute():
        if isinstance(event, events.ScenarioFinished):
            _count(event, result)
        elif isinstance(event, events.NonFatalError):
            result.fail(f"{event.label}: {event.value!r}", "")
        elif isinstance(event, events.FatalError):
            raise event.exception


def _count(scenario: events.ScenarioFinished, result: FuzzResult) -> None:
    recorder = scenario.recorder
    for case_id, interaction in recorder.interactions.items():
        request, response = interaction.request, interaction.response
        text = recorder.cases[case_id].value.as_curl_command()
        if response is None:
            result.fail("no answer", text)
            continue
        result.count(
            text,
            {name: values[0] for name, values in request.headers.items()},
            method=request.method,
            target=request.uri,
            status=response.status_code,
            headers={name.lower(): values[0] for name, values in response.headers.items()},
            body=response.content,
            seconds=response.elapsed,
        )
        for check in recorder.checks.get(case_id, []):
            if check.failure_info is not None:
                result.fail(f"{check.name}: {check.failure_info.failure.message}", text)


def _odd_picture(number: int) -> bytes:
    random = Random(number)
    return mutated(random, random.choice(PICTURES))
