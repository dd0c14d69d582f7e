"""Whom a request is for: a model's name, and a version or none."""

from __future__ import annotations

import re
from functools import lru_cache

from models.errors import VersionNotFound
from models.version import Reference, check_name, is_alias

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


@lru_cache(1024)  # of addresses that are right: errors are not remembered
def reference(name: str, version: str | None) -> Reference:
    """The reference that name and version are.

    Args:
        version: a number; or an alias, which Triton does not have. None and "" stand for none.

    Raises:
        InvalidParameter: the name can be none.
        VersionNotFound: the version can be none.
    """
    if not version:
        return Reference(name=check_name(name))
    if _NUMBER.fullmatch(version):
        return Reference(name=check_name(name), number=int(version))
    if not is_alias(version):
        raise VersionNotFound(f"there is no version '{version[:64]}'; versions are 1, 2, 3 ..., or an alias")
    return Reference(name=check_name(name), alias=version)
