"""Which version each alias of a model points to: ``<name>/deployment.json``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
CHAMPION = "champion"  # the alias that unaddressed requests go to, where it is set


class Deployment(BaseModel):
    """The aliases of one model; replaced atomically, never edited in place.

    Attributes:
        aliases: from alias to version number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION)
    aliases: dict[str, int] = {}

    def with_alias(self, alias: str, number: int) -> Deployment:
        return self.model_copy(update={"aliases": {**self.aliases, alias: number}})
