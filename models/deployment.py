"""Which version each alias of a model points to, and which versions a server keeps loaded: ``<name>/deployment.json``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from models.version_policy import PolicyText, VersionPolicy

SCHEMA_VERSION = 2
CHAMPION = "champion"  # the alias that unaddressed requests go to, where it is set
MOST_EARLIER = 16  # steps that a rollback can go back


class Deployment(BaseModel):
    """What an operator has decided about one model; replaced atomically, never edited in place.

    Attributes:
        aliases: from alias to version number.
        earlier: the versions that an alias pointed to before, the last one at the end.
        keep: what a server keeps loaded beside aliased versions, as `VersionPolicy.parse` reads it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(default=SCHEMA_VERSION, ge=SCHEMA_VERSION, le=SCHEMA_VERSION)
    aliases: dict[str, int] = {}
    earlier: dict[str, tuple[int, ...]] = {}
    keep: PolicyText = str(VersionPolicy())

    @property
    def policy(self) -> VersionPolicy:
        return VersionPolicy.parse(self.keep)

    def with_alias(self, alias: str, number: int) -> Deployment:
        """The alias points to a version, and remembers the one before; nothing changes where it points there already."""
        before = self.aliases.get(alias)
        if before == number:
            return self
        earlier = self.earlier if before is None else {**self.earlier, alias: (*self._earlier(alias), before)}
        if before is not None:
            earlier = {**earlier, alias: earlier[alias][-MOST_EARLIER:]}
        return self.model_copy(update={"aliases": {**self.aliases, alias: number}, "earlier": earlier})

    def rolled_back(self, alias: str, existing: frozenset[int]) -> Deployment | None:
        """The alias points where it pointed before; None where that is nowhere.

        Args:
            existing: versions that can be gone back to; others are passed over, and forgotten.
        """
        now, earlier = self.aliases.get(alias), list(self._earlier(alias))
        while earlier:
            number = earlier.pop()
            if number in existing and number != now:
                return self.model_copy(
                    update={
                        "aliases": {**self.aliases, alias: number},
                        "earlier": {**self.earlier, alias: tuple(earlier)},
                    }
                )
        return None

    def without_alias(self, alias: str) -> Deployment:
        """The alias is gone, with its past."""
        return self.model_copy(
            update={
                "aliases": {name: number for name, number in self.aliases.items() if name != alias},
                "earlier": {name: numbers for name, numbers in self.earlier.items() if name != alias},
            }
        )

    def _earlier(self, alias: str) -> tuple[int, ...]:
        return self.earlier.get(alias, ())
