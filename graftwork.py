"""The command line: composes the sub-commands of the packages, and stands above them all."""

from __future__ import annotations

import logging
import sys

import typer

from finetune.cli import app as finetune_app
from finetune.cli import import_command
from models.cli import app as repository_app
from models.cli import models_app
from models.compute_environment import COMPUTE_ENVIRONMENT, restart_with
from models.errors import Conflict, GraftworkError
from models.options import example
from service.auth.cli import app as keys_app
from service.cli import app as service_app
from service.export.cli import app as export_app
from service.predict_cli import app as predict_app

REFUSED = 3  # the exit code where something is not as a change expects it to be, and stays so

app = typer.Typer(
    name="graftwork",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Graft a head onto a pretrained backbone with your own data, and serve it.",
)
models_app.command("import", epilog=example("graftwork models import timm:tf_efficientnet_lite0 --name imagenet"))(
    import_command
)
models_app.add_typer(export_app)
for part in (finetune_app, service_app, predict_app, repository_app, keys_app):
    app.add_typer(part)


def main() -> None:
    """Runs a command; an error that was raised on purpose is one line on stderr and exit code 1, or 3 for a refused change."""
    restart_with(COMPUTE_ENVIRONMENT)
    try:
        app()
    except GraftworkError as error:
        logging.shutdown()  # what was logged before comes first
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(REFUSED if isinstance(error, Conflict) else 1)


if __name__ == "__main__":
    main()
