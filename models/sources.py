"""Pretrained checkpoints by name: from a package, a directory, the local cache or, when the network allows it, the hub.

    timm:resnet50            a timm model with its default weights
    hf:bert-base-uncased     an encoder of transformers
    dir:/path                either of them, as a directory in the hub's layout (config.json, model.safetensors, ...)

``scratch:lstm`` is a backbone too, but no checkpoint: `finetune.from_scratch` makes it out of the texts it will learn from.

timm and transformers are imported where a checkpoint is theirs: each takes seconds.

No code that comes with a checkpoint is ever run, and weights are read from safetensors only.
"""

from __future__ import annotations

from pathlib import Path

from models import embedded
from models.checkpoint import Checkpoint, read_json, read_safetensors
from models.errors import BackboneNotFound, did_you_mean
from models.hub import hub_directory

SCRATCH_LSTM = "scratch:lstm"


def fetch_checkpoint(name: str) -> Checkpoint:
    """Reads a checkpoint.

    Args:
        name: ``timm:MODEL``, ``hf:REPOSITORY`` or ``dir:PATH``.

    Raises:
        BackboneNotFound: an unknown name, with near matches; or a known one that cannot be reached from here.
    """
    if name == SCRATCH_LSTM:
        raise BackboneNotFound(
            f"'{name}' has no pretrained weights: it learns from the texts of graftwork finetune alone"
        )
    scheme, _, rest = name.partition(":")
    if scheme == "timm" and rest:
        return _of_timm(name, rest)
    if scheme == "hf" and rest:
        return _of_transformers(name, rest)
    if scheme == "dir" and rest:
        return _from_directory(name, Path(rest).expanduser())
    raise _unknown(name)


def check_backbone_name(name: str) -> None:
    """Refuses a name that can be none, without looking anywhere.

    Raises:
        BackboneNotFound: it is not ``timm:MODEL``, ``hf:REPOSITORY``, ``dir:PATH`` or ``scratch:lstm``.
    """
    scheme, _, rest = name.partition(":")
    if name != SCRATCH_LSTM and (scheme not in ("timm", "hf", "dir") or not rest):
        raise _unknown(name)


def _unknown(name: str) -> BackboneNotFound:
    return BackboneNotFound(
        f"unknown backbone '{name}': it is named timm:MODEL, hf:REPOSITORY, dir:PATH or {SCRATCH_LSTM}{_hint(name)}"
    )


def _hint(name: str) -> str:
    import timm

    for known in (*embedded.EMBEDDED, f"timm:{name}"):
        scheme, _, bare = known.partition(":")
        if bare == name and (known in embedded.EMBEDDED or timm.is_model(bare)):
            return f"; did you mean '{scheme}:{bare}'?"
    return did_you_mean(name, embedded.EMBEDDED)


def _of_timm(name: str, rest: str) -> Checkpoint:
    from models.timm_checkpoint import timm_by_name, timm_checkpoint

    if name == "timm:tf_efficientnet_lite0":
        state = embedded.read_lite0(embedded.require_embedded_directory(name))
        return timm_checkpoint(name, rest, state, overrides={})
    return timm_by_name(name, rest)


def _of_transformers(name: str, rest: str) -> Checkpoint:
    from models.transformers_checkpoint import transformers_checkpoint

    if rest.removeprefix("sentence-transformers/") == "all-MiniLM-L6-v2":
        directory = embedded.require_embedded_directory("hf:all-MiniLM-L6-v2") / "model"
        embedded.read_pinned(directory / "model.safetensors", embedded.MINILM_SHA256)
        return transformers_checkpoint("hf:all-MiniLM-L6-v2", directory)
    return transformers_checkpoint(name, hub_directory(name, rest))


def _from_directory(name: str, directory: Path) -> Checkpoint:
    if not directory.is_dir():
        raise BackboneNotFound(f"'{name}': there is no such directory")
    options = read_json(name, directory / "config.json")
    if "architecture" in options:
        from models.timm_checkpoint import timm_checkpoint

        state = read_safetensors(name, directory / "model.safetensors")
        return timm_checkpoint(name, str(options["architecture"]), state, overrides=options)
    from models.transformers_checkpoint import transformers_checkpoint

    return transformers_checkpoint(name, directory)
