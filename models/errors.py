"""Every error that Graftwork raises on purpose, in one tree.

    GraftworkError                      500 internal
    |- InputError                       one row or one request that cannot be answered as it stands
    |  |- EmptyBody, InvalidJson, JsonTooDeep, InvalidUtf8, InvalidUnicode, InvalidBase64, NonFinite,
    |  |  InvalidEncoding                                                                              400
    |  |- InvalidParameter, InvalidTensor, ShapeOverflow, BadRequest, InvalidMessage                   400
    |  |- RequestTimeout                                                                               408
    |  |- BodyTooLarge, TextTooLong, ImageTooManyPixels, TooManyInstances                              413
    |  |- UrlTooLong                                                                                   414
    |  |- FormatNotAllowed, UnsupportedMediaType                                                       415
    |  |- InvalidInstances, InvalidValue, InvalidDocument, EmptyText, ContextLengthExceeded, ImageTruncated, ImageUndecodable,
    |  |  AspectRatio, WorkerCrashed                                                                   422
    |  `- HeadersTooLarge                                                                              431
    |- Unauthorized                     no key, or none that is known (with WWW-Authenticate)           401
    |- Forbidden                        CrossSite: a caller that is known, or a web page, may not       403
    |- NotFound                         RouteNotFound, ModelNotFound, VersionNotFound, VersionNotLoaded,
    |  |                                BackboneNotFound, KeyNotFound                                                     404
    |  `- MethodNotAllowed                                                                             405
    |- NotSupported                     a part of a protocol that this server leaves out               501
    |- UnsuitableModel                  the model that a route speaks for does not do what is asked      424
    |- Conflict                         VersionInUse, PromotionRefused                                 409
    |- DatasetInvalid                   what the user's data lacks, with file and line                 422
    |- VersionCorrupt                   EngineMismatch: a version that must not be served             422
    |- RateLimited                      a key that asks more often than it may (with Retry-After)       429
    |- KeyFileInvalid                   the key file is damaged, or others can read it                  500
    |- ExportFailed                     what was exported does not answer as its version does, or there is no graph of it  500
    |- StorageFailed                    the repository cannot be written                               507
    |- Unavailable                      Overloaded, TooManyConnections, NotReady, WorkerLost, OutOfMemory,
    |                                   DeviceFailed, EngineUnavailable (with Retry-After)               503
    `- DeadlineExceeded                                                                                504

``status`` is the HTTP status, ``code`` the stable name that clients may match on; both are part of the API. A message
names the cure and never holds a path, a class name or a traceback: it is shown to callers as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from heapq import nlargest
from itertools import pairwise

_SHORTLIST = 32


def shown(name: str) -> str:
    """A name that somebody else chose, such as that of a file, for the middle of a message: short, and on one line."""
    name = name if len(name) <= 60 else f"{name[:57]}..."
    return name if name.isprintable() else name.encode("unicode_escape").decode()


class GraftworkError(Exception):
    """Base of the tree.

    Args:
        message: one line for the caller, naming the cure.

    Attributes:
        row: of those that were computed together, the one that it is about; None where it is about all of them.
        parameter: the member of the request's document that it is about; None where it is not known, or about none.
    """

    status = 500
    code = "internal"
    row: int | None = None
    parameter: str | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def name_row(self, row: int) -> None:
        """Says which of a request's rows it is about."""
        self.row = row
        self.message = f"instance {row}: {self.message}"


class InputError(GraftworkError):
    """See the tree.

    Args:
        parameter: the member of the request's document that it is about.
    """

    status = 422
    code = "invalid_input"

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class EmptyBody(InputError):
    status = 400
    code = "empty_body"


class InvalidJson(InputError):
    status = 400
    code = "invalid_json"


class JsonTooDeep(InputError):
    status = 400
    code = "json_too_deep"


class InvalidUtf8(InputError):
    status = 400
    code = "invalid_utf8"


class InvalidUnicode(InputError):
    status = 400
    code = "invalid_unicode"


class InvalidBase64(InputError):
    status = 400
    code = "invalid_base64"


class InvalidEncoding(InputError):
    """A compressed body is damaged."""

    status = 400
    code = "invalid_encoding"


class NonFinite(InputError):
    status = 400
    code = "non_finite"


class InvalidParameter(InputError):
    status = 400
    code = "invalid_parameter"


class InvalidTensor(InputError):
    """A tensor of a request is not what its model reads, or what it says of itself."""

    status = 400
    code = "invalid_tensor"


class ShapeOverflow(InvalidTensor):
    """A shape stands for more elements than anything could hold."""

    code = "shape_overflow"


class BadRequest(InputError):
    """What was sent is not HTTP/1.1 as it is written down: nobody else may read it in another way."""

    status = 400
    code = "bad_request"


class InvalidMessage(InputError):
    """What was sent is not the message that the method of gRPC takes."""

    status = 400
    code = "invalid_message"


class RequestTimeout(InputError):
    """The request was not complete in time."""

    status = 408
    code = "request_timeout"


class BodyTooLarge(InputError):
    status = 413
    code = "body_too_large"


class TextTooLong(InputError):
    status = 413
    code = "text_too_long"


class ImageTooManyPixels(InputError):
    status = 413
    code = "image_too_many_pixels"


class TooManyInstances(InputError):
    status = 413
    code = "too_many_instances"


class UrlTooLong(InputError):
    status = 414
    code = "url_too_long"


class FormatNotAllowed(InputError):
    status = 415
    code = "format_not_allowed"


class UnsupportedMediaType(InputError):
    status = 415
    code = "unsupported_media_type"


class InvalidInstances(InputError):
    code = "invalid_instances"


class InvalidValue(InputError):
    """A member of a JSON document is of another type than it must be; the message begins with the pointer to it."""

    code = "invalid_value"


class InvalidDocument(InputError):
    """What an operator asks for: a member is missing, unknown or of another type."""

    code = "invalid_document"


class EmptyText(InputError):
    code = "empty_text"


class ContextLengthExceeded(InputError):
    code = "context_length_exceeded"


class ImageTruncated(InputError):
    code = "image_truncated"


class ImageUndecodable(InputError):
    code = "image_undecodable"


class AspectRatio(InputError):
    code = "aspect_ratio"


class WorkerCrashed(InputError):
    code = "worker_crashed"


class HeadersTooLarge(InputError):
    status = 431
    code = "headers_too_large"


class Unauthorized(GraftworkError):
    status = 401
    code = "unauthorized"


class Forbidden(GraftworkError):
    status = 403
    code = "forbidden"


class CrossSite(Forbidden):
    """A page of another site asks through somebody's browser."""

    code = "cross_site"


class NotFound(GraftworkError):
    status = 404
    code = "not_found"


class RouteNotFound(NotFound):
    code = "route_not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class VersionNotFound(NotFound):
    code = "version_not_found"


class VersionNotLoaded(NotFound):
    """It is in the repository, and nobody has asked for it to be kept loaded."""

    code = "version_not_loaded"


class BackboneNotFound(NotFound):
    code = "backbone_not_found"


class KeyNotFound(NotFound):
    code = "key_not_found"


class MethodNotAllowed(NotFound):
    status = 405
    code = "method_not_allowed"


class NotSupported(GraftworkError):
    """A part of a protocol that this server leaves out, or as it was started; asking again does not help."""

    status = 501
    code = "not_supported"


class UnsuitableModel(GraftworkError):
    """A route speaks for one model, which does not do what is asked, or nobody has said which one; asking again does not help."""

    status = 424
    code = "unsuitable_model"


class Conflict(GraftworkError):
    status = 409
    code = "conflict"


class VersionInUse(Conflict):
    code = "version_in_use"


class PromotionRefused(Conflict):
    """The version must not be served; an alias stays where it is."""

    code = "promotion_refused"


class DatasetInvalid(GraftworkError):
    """What the user's data lacks.

    Args:
        message: one line naming the cure.
        file: the file that is at fault, as the user named it.
        line: 1-based line in that file.
    """

    status = 422
    code = "dataset_invalid"

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None) -> None:
        where = "" if file is None else f"{file}: " if line is None else f"{file}:{line}: "
        super().__init__(where + message)
        self.file = file
        self.line = line


class VersionCorrupt(GraftworkError):
    status = 422
    code = "version_corrupt"


class EngineMismatch(VersionCorrupt):
    """The golden inputs get other features here than at publishing: the engine may be to blame, and another one do."""

    code = "engine_mismatch"


class RateLimited(GraftworkError):
    """A key has asked more often than it may.

    Args:
        message: one line.
        retry_after_seconds: when it may ask again; sent as ``Retry-After``.
    """

    status = 429
    code = "rate_limited"

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class KeyFileInvalid(GraftworkError):
    code = "key_file_invalid"


class ExportFailed(GraftworkError):
    """There is no graph of a backbone, or what was exported does not answer as its version does; nothing of it is kept."""

    code = "export_failed"


class StorageFailed(GraftworkError):
    status = 507
    code = "storage_failed"


class Unavailable(GraftworkError):
    """The server cannot answer now, but may soon.

    Args:
        message: one line.
        retry_after_seconds: when a new try makes sense; sent as ``Retry-After``.
    """

    status = 503
    code = "unavailable"

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Overloaded(Unavailable):
    code = "overloaded"


class TooManyConnections(Unavailable):
    code = "too_many_connections"


class NotReady(Unavailable):
    code = "not_ready"


class WorkerLost(Unavailable):
    code = "worker_lost"


class OutOfMemory(Unavailable):
    code = "out_of_memory"


class DeviceFailed(Unavailable):
    """A device that will answer nothing any more in this process: a worker that meets it ends and is replaced."""

    code = "device_failed"


class EngineUnavailable(Unavailable):
    """Forward passes go to other servers, and none of them answers now."""

    code = "engine_unavailable"


class DeadlineExceeded(GraftworkError):
    status = 504
    code = "deadline_exceeded"


def did_you_mean(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """The end of a message: the known names nearest to an unknown one, or nothing.

    >>> did_you_mean("resnet5", ["resnet50", "vit_base"])
    "; did you mean 'resnet50'?"
    """
    near = get_close_matches(name, _shortlist(name, list(known)), n=most, cutoff=0.6)
    return "; did you mean " + " or ".join(f"'{n}'" for n in near) + "?" if near else ""


def _shortlist(name: str, known: Sequence[str]) -> Sequence[str]:
    """The names that share the most pairs of letters with a name: a quick look, as difflib takes tens of ms for a thousand."""
    if len(known) <= _SHORTLIST:
        return known
    wanted = frozenset(_pairs(name))
    return nlargest(
        _SHORTLIST, known, key=lambda other: len(wanted.intersection(_pairs(other))) / (len(name) + len(other) + 1)
    )


def _pairs(word: str) -> Iterable[tuple[str, str]]:
    return pairwise(f"^{word}$")  # with marks, so that first and last letters count as well


def _by_code() -> dict[str, type[GraftworkError]]:
    found: dict[str, type[GraftworkError]] = {}
    waiting: list[type[GraftworkError]] = [GraftworkError]
    while waiting:
        kind = waiting.pop()
        found[kind.code] = kind
        waiting.extend(kind.__subclasses__())
    return found


def from_code(code: str, message: str, row: int | None = None) -> GraftworkError:
    """The error that another process named by its ``code``; an unknown code is an internal error."""
    error = _by_code().get(code, GraftworkError)(message)
    error.row = row
    return error
