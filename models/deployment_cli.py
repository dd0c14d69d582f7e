"""``graftwork models promote``, ``rollback``, ``aliases``, ``unalias`` and ``keep``: what an operator decides about versions.

They change the repository, so that they work with a server and without one: running servers follow within a second.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from models.aliases import UNSET, AliasChange, Expected
from models.aliases import promote as promote_version
from models.aliases import rollback as roll_back
from models.aliases import unalias as remove_alias
from models.aligned_table import print_table
from models.audit import AuditLog, local_user
from models.deployment import CHAMPION
from models.errors import InvalidParameter
from models.options import DEFAULT_REPOSITORY, JsonOption, RepositoryOption, example
from models.repository import ModelRepository
from models.version import Reference, check_name, parse_number
from models.version_policy import VersionPolicy

app = typer.Typer()


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A model.")]
AliasOption = Annotated[str, typer.Option("--alias", help="Requests that name no version go to 'champion'.")]
ExpectOption = Annotated[
    str | None,
    typer.Option(
        "--expect",
        metavar="N|unset",
        help="Refuse, with exit code 3, unless the alias points to this version now.",
    ),
]


@app.command(
    epilog=example(
        "graftwork models promote flowers:4",
        "graftwork models promote flowers:4 --alias champion --expect 3",
        "graftwork models promote flowers@candidate",
    )
)
def promote(
    reference: Annotated[str, typer.Argument(metavar="NAME:N|NAME@ALIAS", help="One version.")],
    alias: AliasOption = CHAMPION,
    expect: ExpectOption = None,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    as_json: JsonOption = False,
) -> None:
    """Point an alias at an intact version. Exit code 3: refused, and nothing is changed."""
    parsed = Reference.parse(reference)
    if parsed.number is None and parsed.alias is None:
        raise typer.BadParameter("name one version, such as flowers:4")
    with AuditLog(repository).recording(local_user(), "models.promote", target=f"{parsed.name}@{alias} = {parsed}"):
        change = promote_version(ModelRepository(repository), parsed, alias, expect=_expected(expect))
    _print(change, as_json)


@app.command(epilog=example("graftwork models rollback flowers", "graftwork models rollback flowers --expect 4"))
def rollback(
    name: NameArgument,
    alias: AliasOption = CHAMPION,
    expect: ExpectOption = None,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    as_json: JsonOption = False,
) -> None:
    """Point an alias at the version that it pointed to before. Exit code 3: refused, and nothing is changed."""
    with AuditLog(repository).recording(local_user(), "models.rollback", target=f"{check_name(name)}@{alias}"):
        change = roll_back(ModelRepository(repository), name, alias, expect=_expected(expect))
    _print(change, as_json)


@app.command(epilog=example("graftwork models unalias flowers@candidate"))
def unalias(
    reference: Annotated[str, typer.Argument(metavar="NAME@ALIAS", help="One alias.")],
    expect: ExpectOption = None,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    as_json: JsonOption = False,
) -> None:
    """Remove an alias; without 'champion', requests that name no version go to the newest one."""
    parsed = Reference.parse(reference)
    if parsed.alias is None:
        raise typer.BadParameter("name one alias, such as flowers@candidate")
    with AuditLog(repository).recording(local_user(), "models.unalias", target=str(parsed)):
        change = remove_alias(ModelRepository(repository), parsed.name, parsed.alias, expect=_expected(expect))
    _print(change, as_json)


@app.command(epilog=example("graftwork models aliases", "graftwork models aliases flowers --json"))
def aliases(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A model; all of them without.")] = None,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    as_json: JsonOption = False,
) -> None:
    """List where aliases point, where a rollback would take them, and what is kept loaded."""
    store = ModelRepository(repository)
    if name is not None:
        store.existing_numbers(name)
    deployments = {each: store.deployment(each) for each in (store.names() if name is None else [name])}
    if as_json:
        print(json.dumps({"models": {each: found.model_dump(mode="json") for each, found in deployments.items()}}))
        return
    rows = []
    for each, found in deployments.items():
        rows += [
            [each, alias, str(number), " ".join(map(str, reversed(found.earlier.get(alias, ())))), found.keep]
            for alias, number in sorted(found.aliases.items())
        ] or [[each, "", "", "", found.keep]]
    if not rows:
        print(f"no models in {repository}; make one: graftwork finetune DATA --name NAME")
        return
    print_table(["model", "alias", "version", "before", "kept loaded"], rows)


@app.command(epilog=example("graftwork models keep flowers latest:3", "graftwork models keep flowers 1,4"))
def keep(
    name: NameArgument,
    policy: Annotated[str, typer.Argument(metavar="latest:N|all|N,N", help="Beside versions that have an alias.")],
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    as_json: JsonOption = False,
) -> None:
    """Say which versions of a model servers keep loaded; the latest two without."""
    kept = str(VersionPolicy.parse(policy))
    with AuditLog(repository).recording(local_user(), "models.keep", target=f"{check_name(name)} {kept}"):
        ModelRepository(repository).change_deployment(name, lambda before: before.model_copy(update={"keep": kept}))
    print(json.dumps({"model": name, "keep": kept}) if as_json else f"{name} keeps {kept} loaded, and aliased versions")


def _expected(text: str | None) -> Expected:
    if text is None or text == UNSET:
        return text
    try:
        return parse_number(text)
    except InvalidParameter:
        raise typer.BadParameter(f"{text[:64]}: name a version's number, or {UNSET}", param_hint="--expect") from None


def _print(change: AliasChange, as_json: bool) -> None:
    document = {"model": change.name, "alias": change.alias, "version": change.now, "before": change.before}
    print(json.dumps(document) if as_json else change)
