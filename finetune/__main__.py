"""``graftwork finetune`` as a module, which is what ``torchrun`` starts several of.

torchrun --nproc-per-node 2 -m finetune photos/ --name flowers --strategy full
"""

from __future__ import annotations

import sys

import typer

from finetune.cli import finetune
from models.compute_environment import COMPUTE_ENVIRONMENT, restart_with
from models.errors import GraftworkError


def main() -> None:
    """Runs the command; an error that was raised on purpose is one line on stderr and exit code 1."""
    restart_with(COMPUTE_ENVIRONMENT)
    try:
        typer.run(finetune)
    except GraftworkError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
