"""``graftwork models gc`` and ``migrate``: what keeps a repository tidy."""

from __future__ import annotations

import json
import os
import re
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from models.aligned_table import print_table, size
from models.audit import Action, AuditLog, local_user
from models.garbage import collect_garbage
from models.migrations import migrate
from models.options import (
    DEFAULT_REPOSITORY,
    CacheDirOption,
    JsonOption,
    RepositoryOption,
    default_cache_dir,
    example,
)
from models.repository import ModelRepository

app = typer.Typer()

_PERIOD = re.compile(r"([0-9]{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def parse_period(text: str) -> timedelta:
    """Reads ``30m``, ``12h``, ``1d``, ``2w``."""
    found = _PERIOD.fullmatch(text)
    if found is None:
        raise typer.BadParameter("a period is a number and s, m, h, d or w, such as 12h or 1d")
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


@app.command("gc", epilog=example("graftwork models gc --dry-run", "graftwork models gc --older-than 2w"))
def collect(
    older_than: Annotated[
        timedelta,
        typer.Option(parser=parse_period, metavar="PERIOD", help="What was added or used since then stays."),
    ] = "1d",  # type: ignore[assignment]  # as it would be typed
    dry_run: DryRunOption = False,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    cache_dir: CacheDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove backbones that no version refers to, what interrupted publishes have left, and what the cache has not used.

    Features and interrupted training runs do not name their backbone: they go when nobody has used them for that long, whichever
    repository they were made for. So do graphs of backbones that are not in this repository. All of the cache can be made again.
    Running servers are not affected, and jobs that publish beside this are safe.
    """
    cache = cache_dir or default_cache_dir(os.environ)
    with _recording(repository, "models.gc", dry_run) as action:
        collected = collect_garbage(ModelRepository(repository), cache, unused_for=older_than, dry_run=dry_run)
        action.target = " ".join(f"{one.kind}:{one.name[:12]}" for one in collected.garbage)
    if as_json:
        garbage = [{"kind": one.kind, "name": one.name, "size_bytes": one.size_bytes} for one in collected.garbage]
        total = {"size_bytes": collected.size_bytes, "dry_run": dry_run, "untold": collected.untold}
        print(json.dumps({"garbage": garbage, **total}))
        return
    if collected.garbage:
        print_table(
            ["what", "name", "size"], [[one.kind, one.name[:12], size(one.size_bytes)] for one in collected.garbage]
        )
    done = "would be removed" if dry_run else "removed"
    print(f"{size(collected.size_bytes)} {done}" if collected.garbage else "nothing to remove")
    if collected.untold:
        print(f"no backbone is touched: {', '.join(collected.untold)} may stand on any; delete what is damaged first")


@app.command("migrate", epilog=example("graftwork models migrate --dry-run", "graftwork models migrate"))
def migrate_documents(
    dry_run: DryRunOption = False, repository: RepositoryOption = DEFAULT_REPOSITORY, as_json: JsonOption = False
) -> None:
    """Bring versions and aliases that an older Graftwork wrote to the schema that this one reads.

    What is damaged or of a newer Graftwork is listed and left as it is; the exit code is then 1. Weights are never touched.
    """
    with _recording(repository, "models.migrate", dry_run) as action:
        found = migrate(ModelRepository(repository), dry_run=dry_run)
        action.target = " ".join(one.name for one in found if one.problem is None)
    migrated = [one for one in found if one.problem is None]
    problems = [one for one in found if one.problem is not None]
    if as_json:
        document = {
            "migrated": [{"name": one.name, "from": one.found, "to": one.schema} for one in migrated],
            "problems": [{"name": one.name, "problem": one.problem} for one in problems],
            "dry_run": dry_run,
        }
        print(json.dumps(document))
    elif found:
        done = "would be migrated" if dry_run else "migrated"
        told = {one.name: one.problem or f"{done} from schema {one.found} to {one.schema}" for one in found}
        print_table(["document", "what"], list(told.items()))
    else:
        print("nothing to migrate")
    if problems:
        raise typer.Exit(1)


def _recording(repository: Path, what: str, dry_run: bool) -> AbstractContextManager[Action]:
    """In the audit log, unless nothing can change; a mistyped name makes no repository."""
    if dry_run or not repository.is_dir():
        return nullcontext(Action())
    return AuditLog(repository).recording(local_user(), what)
