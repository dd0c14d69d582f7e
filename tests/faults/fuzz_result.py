"""What a fuzz found: how many requests were answered how, and every answer that breaks a promise."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote

import jsonschema_rs

from service.api.openapi import openapi_document
from tests.faults.inference_answer import wrong_inference

GRACE_SECONDS = 1.0  # an answer may come so much later than its deadline on a busy machine
BY_POLICY = (503, 504)  # full, not ready; too late: no server errors
MOST_FAILURES = 100
NOT_SUPPORTED = 501  # by policy too, for what the Open Inference Protocol has and this server has not
JSON, PROBLEM = "application/json", "application/problem+json"
_HOST = r"(https?://[^/]*)?"
_OIP = re.compile(rf"{_HOST}/v2(/.*)?", re.DOTALL)
_OPENAI = re.compile(rf"{_HOST}/v1/embeddings")
_LISTING = re.compile(rf"{_HOST}/v1/models(?:/[^/]*(?<!:predict))?")
_TEI = re.compile(rf"{_HOST}/(embed|predict|rerank|similarity|info|health)?")
_INFER = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/infer")

# By the name of its schema.
Dialect: TypeAlias = Literal["InferError", "OpenAIError", "TeiError", "ListingProblem", "Problem"]
PROBLEMS = ("Problem", "ListingProblem")

# Class names, tracebacks and places on this machine.
_SECRET = re.compile(
    rb'Traceback|File \\?"|, line \d|\.py\b|object at 0x|\.sock\b|/(?:tmp|home|root|usr|var|site-packages)\b'
    rb"|[A-Z][a-z]+(?:[A-Z][a-z]+)+|\w(?:Error|Exception)\b"
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(kw_only=True)
class FuzzResult:
    """Answers, and what is wrong with them.

    Attributes:
        seed: gives the same requests again.
        deadline: seconds that the server allows a request; ``X-Request-Timeout`` makes them fewer.
        by_status: answers by status.
        by_code: errors by their code.
        slowest: seconds to the slowest answer.
        failures: what was wrong with an answer, and the request; no more than the first hundred.
        failed: how many there were.
    """

    seed: int
    deadline: float = 30.0
    by_status: Counter[int] = field(default_factory=Counter)
    by_code: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)
    failed: int = 0

    @property
    def cases(self) -> int:
        """Requests that were answered."""
        return self.by_status.total()

    def fail(self, what: str, request: object) -> None:
        self.failed += 1
        if len(self.failures) < MOST_FAILURES:
            self.failures.append(f"{what}\n    {str(request)[:800]}")

    def count(
        self,
        request: object,
        sent: Mapping[str, str],
        *,
        method: str,
        target: str | None,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        seconds: float,
    ) -> None:
        """Counts an answer and checks what holds for all of them.

        Args:
            request: what to print in order to ask again.
            sent: the request's headers.
            method: of the request.
            target: of the request, which decides on the dialect of errors; None where that is not known.
            status: of the answer, as are headers (names in lower case) and body.
            seconds: from the request to its answer.
        """
        self.by_status[status] += 1
        self.slowest = max(self.slowest, seconds)
        sent = {name.lower(): value for name, value in sent.items()}
        allowed = min(self.deadline, _seconds(sent.get("x-request-timeout"), self.deadline))
        if seconds > allowed + GRACE_SECONDS:
            self.fail(f"answered after {seconds:.2f} s of {allowed:g}", request)
        path = None if target is None else unquote(target.partition("?")[0])
        allowed_too = status == NOT_SUPPORTED and (method == "HEAD" or body.startswith(b'{"error":"not_supported: '))
        if status >= 500 and status not in BY_POLICY and not allowed_too:
            self.fail(f"a server error: {status} {body[:300]!r}", request)
        carried, asked = headers.get("x-request-id", ""), sent.get("x-request-id", "")
        echo = _REQUEST_ID.fullmatch(asked) and status != 400  # which may be sent before it is read
        if not _REQUEST_ID.fullmatch(carried) or (echo and carried != asked):
            self.fail(f"asked with the id {asked!r}, answered with {carried!r}", request)
        if b"Traceback" in body:
            self.fail(f"{status} shows a traceback: {body[:300]!r}", request)
        if status >= 400:
            self._check_error(request, method, path, status, headers, body)
        elif method == "POST" and _INFER.fullmatch(path or "") and (wrong := wrong_inference(headers, body)):
            self.fail(f"an inference's answer {wrong}: {body[:300]!r}", request)

    def _check_error(
        self, request: object, method: str, path: str | None, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        dialect = _dialect_of(body) if path is None else _dialect(path)
        if headers.get("content-type", "") != (PROBLEM if dialect in PROBLEMS else JSON):
            self.fail(f"{status} as {headers.get('content-type')}: {body[:300]!r}", request)
            return
        if status == 503 and not headers.get("retry-after", "").isdigit():
            self.fail("503 without Retry-After", request)
        if status == 405 and not headers.get("allow"):
            self.fail("405 without Allow", request)
        if method == "HEAD":
            return
        try:
            document = json.loads(body)
        except ValueError:
            self.fail(f"{status} with a body that is no JSON: {body[:300]!r}", request)
            return
        for error in validator(dialect).iter_errors(document):
            self.fail(f"{status} with a body that is no {dialect}: {error.message}: {document}", request)
            return
        code = _code_of(document)
        self.by_code[code] += 1
        ids = status, headers.get("x-request-id")
        if dialect in PROBLEMS and (document["status"], document["request_id"]) != ids:
            self.fail(f"a problem with another status or id than its response, which has {status}: {document}", request)
        if (status, code) not in documented_errors(dialect):
            self.fail(f"no documented error: {document}", request)
        for secret in _SECRET.findall(body):
            if secret.decode() not in str(request):
                self.fail(f"{status} shows {secret!r}: {body!r}", request)

    def table(self) -> str:
        """Counts by status and by code."""
        statuses = [f"{status:>6} {count:>9,}" for status, count in sorted(self.by_status.items())]
        codes = [f"{code:<26} {count:>9,}" for code, count in self.by_code.most_common()]
        rows = [f"{'status':>6} {'answers':>9}    {'error code':<26} {'answers':>9}"]
        for index in range(max(len(statuses), len(codes))):
            status = statuses[index] if index < len(statuses) else " " * 16
            rows.append(f"{status}    {codes[index] if index < len(codes) else ''}".rstrip())
        summary = (
            f"{self.cases:,} requests, {self.failed:,} failures, slowest answer {self.slowest:.3f} s, seed {self.seed}"
        )
        return "\n".join([*rows, summary])


def _seconds(header: str | None, most: float) -> float:
    try:
        seconds = float(header or "")
    except ValueError:
        return most
    return seconds if seconds > 0 else most


def _dialect(path: str) -> Dialect:
    if _OIP.fullmatch(path):
        return "InferError"
    if _OPENAI.fullmatch(path):
        return "OpenAIError"
    if _TEI.fullmatch(path):
        return "TeiError"
    return "ListingProblem" if _LISTING.fullmatch(path) else "Problem"


def _dialect_of(body: bytes) -> Dialect:
    """That of an answer to a request whose path nobody knows."""
    try:
        document = json.loads(body)
        if "error_type" in document:
            return "TeiError"
        if "detail" in document:
            return "ListingProblem" if "error" in document else "Problem"
        return "OpenAIError" if isinstance(document["error"], dict) else "InferError"
    except (ValueError, TypeError, KeyError):
        return "Problem"


def _code_of(document: Mapping[str, Any]) -> str:
    if "code" in document:
        return str(document["code"])
    error = document["error"]
    return str(error["code"] if isinstance(error, dict) else error.partition(": ")[0])


@cache
def validator(name: str) -> Any:
    """Of a schema of the OpenAPI document."""
    components = openapi_document("0")["components"]
    return jsonschema_rs.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components})


@cache
def documented_errors(dialect: Dialect) -> frozenset[tuple[int, str]]:
    """Every status with a code that the document has for any route with this dialect."""
    found = set()
    for path, operations in openapi_document("0")["paths"].items():
        for operation in operations.values() if _dialect(path) == dialect else ():
            for status, response in operation["responses"].items():
                if int(status) < 400:
                    continue
                (content,) = response["content"].values()
                particular = content["schema"]["allOf"][1]
                found |= {(int(status), code) for code in _codes(particular["properties"])}
    return frozenset(found)


def _codes(properties: Mapping[str, Any]) -> Sequence[str]:
    properties = properties.get("error", {}).get("properties", properties)
    if "code" in properties:
        codes: Sequence[str] = properties["code"]["enum"]
        return codes
    (codes_in_pattern,) = re.findall(r"\^\((.*)\): ", properties["error"]["pattern"])
    return str(codes_in_pattern).split("|")
