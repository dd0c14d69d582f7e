"""Files of the Hugging Face hub: from the local cache or, when the network allows it, downloaded."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from models import embedded
from models.errors import BackboneNotFound, did_you_mean


def hub_file(name: str, repository: str, file: str) -> Path:
    """One file of a hub repository.

    Args:
        name: the backbone as the user named it, for messages.

    Raises:
        BackboneNotFound: it is neither in the cache nor to be had.
    """
    from huggingface_hub import hf_hub_download

    return Path(_from_hub(name, hf_hub_download, repository, file))


def hub_directory(name: str, repository: str) -> Path:
    """A hub repository's configuration, tokenizer and safetensors; never its code or pickles.

    Raises:
        BackboneNotFound: it is neither in the cache nor to be had.
    """
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "model*.safetensors", "1_Pooling/config.json"]

    def download(repo_id: str, **options: Any) -> str:
        return str(snapshot_download(repo_id, allow_patterns=patterns, **options))

    return Path(_from_hub(name, download, repository))


def _from_hub(name: str, download: Callable[..., Any], *arguments: str) -> str:
    """The local cache first, then the network."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    hint = did_you_mean(name, embedded.EMBEDDED)
    unreachable = BackboneNotFound(
        f"'{name}' is not in the local cache and the hub cannot be reached"
        + (hint or f"; use dir:/path, or without a hub {' or '.join(embedded.EMBEDDED)}")
    )
    try:
        return str(download(*arguments, local_files_only=True))
    except HFValidationError:
        raise BackboneNotFound(f"'{name}' is no valid repository name{hint}") from None
    except LocalEntryNotFoundError:
        pass
    if not _hub_answers():
        raise unreachable
    try:
        return str(download(*arguments))
    except LocalEntryNotFoundError:  # the connection broke off
        raise unreachable from None
    except GatedRepoError:
        raise BackboneNotFound(
            f"'{name}' must be asked for on the hub: accept its terms, then: hf auth login"
        ) from None
    except (RepositoryNotFoundError, EntryNotFoundError):
        raise BackboneNotFound(f"the hub has no '{name}'{hint}") from None
    except Exception:  # the hub client raises its own errors, the HTTP library's and OSError
        raise unreachable from None


def _hub_answers() -> bool:
    """One look before the hub client's six tries with growing pauses, which take 23 s without a network."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    url = urlsplit(constants.ENDPOINT)
    if getproxies().get(url.scheme):
        return True
    try:
        socket.create_connection((url.hostname or "", url.port or 443), timeout=5).close()
    except OSError:
        return False
    return True
