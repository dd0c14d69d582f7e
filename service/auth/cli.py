"""``graftwork keys``: who may call a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from models.aligned_table import print_table
from models.audit import AuditLog, local_user
from models.options import DEFAULT_REPOSITORY, JsonOption, RepositoryOption, example
from service.auth.key import Key, Scope, id_of, parse_lifetime
from service.auth.key_file import open_key_file

app = typer.Typer()
keys_app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the keys that a server asks for.")
app.add_typer(keys_app, name="keys")

KeysOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--keys", envvar="GRAFTWORK_KEYS", help="The file that holds the keys; .keys.json in the repository without."
    ),
]


@keys_app.command(
    "create",
    epilog=example(
        "graftwork keys create --name shop --scope predict",
        "graftwork keys create --name prometheus --scope metrics --expires 90d",
        "export GRAFTWORK_API_KEY=$(graftwork keys create --name me --scope predict --scope metadata)",
    ),
)
def create(
    name: Annotated[str, typer.Option(help="For people: who uses it.")],
    scope: Annotated[list[Scope], typer.Option("--scope", help="What it allows; may be given several times.")],
    rate: Annotated[
        float | None, typer.Option(min=0.001, max=1e6, help="Requests a second; more get 429.  [default: no limit]")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="30m, 12h, 90d or 8w from now.  [default: never]")
    ] = None,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key, and print its secret: this once, as only its checksum is kept."""
    lifetime = None if expires is None else parse_lifetime(expires)
    with AuditLog(repository).recording(local_user(), "keys.create", target=name) as action:
        key, secret = open_key_file(keys, repository).create(name, scope, requests_per_second=rate, lifetime=lifetime)
        action.target = f"{key.id} {name}"
    if as_json:
        print(json.dumps({**_row(key), "secret": secret}))
        return
    print(secret)
    print(f"key {key.id} ({name}) allows {', '.join(key.scopes)}; its secret is not shown again", file=sys.stderr)


@keys_app.command("list", epilog=example("graftwork keys list", "graftwork keys list --json"))
def list_keys(
    repository: RepositoryOption = DEFAULT_REPOSITORY, keys: KeysOption = None, as_json: JsonOption = False
) -> None:
    """List every key that was made."""
    found = open_key_file(keys, repository).read()
    if as_json:
        print(json.dumps({"keys": [_row(key) for key in found]}))
        return
    if not found:
        print("there are no keys; make one: graftwork keys create --name NAME --scope predict")
        return
    print_table(["key", "name", "state", "scopes", "rate", "created", "expires"], [_cells(key) for key in found])


@keys_app.command("revoke", epilog=example("graftwork keys revoke 1f0c9a3e"))
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Its id, or a secret that got into wrong hands.")],
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key for good; running servers refuse it within two seconds."""
    if key_id.startswith("gw_"):
        key_id = id_of(key_id.encode()).decode(errors="replace")
    with AuditLog(repository).recording(local_user(), "keys.revoke", target=key_id):
        key = open_key_file(keys, repository).revoke(key_id)
    print(json.dumps(_row(key)) if as_json else f"key {key.id} ({key.name}) is revoked")


def _row(key: Key) -> Mapping[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "state": key.state(datetime.now(UTC)),
        "scopes": list(key.scopes),
        "requests_per_second": key.requests_per_second,
        "created_at": key.created_at.isoformat(),
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
        "revoked_at": None if key.revoked_at is None else key.revoked_at.isoformat(),
    }


def _cells(key: Key) -> list[str]:
    rate = key.requests_per_second
    return [
        key.id,
        key.name,
        key.state(datetime.now(UTC)),
        " ".join(key.scopes),
        "" if rate is None else f"{rate:g}/s",
        f"{key.created_at:%Y-%m-%d %H:%M}",
        "" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d %H:%M}",
    ]
