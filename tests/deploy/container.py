"""A process as in a container, as far as the kernel lets one make it without an engine: the first of its namespace, on a file
system that it cannot write, without capabilities.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"

_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# Everything is bound again as read-only, but for /dev, /proc and what is named. (The fields: proc(5), mountinfo.)
_CONFINE = """
for directory in $WRITABLE; do mount --bind "$directory" "$directory"; done
while read -r _ _ _ _ at _; do
    case " $WRITABLE /proc " in *" $at "*) continue ;; esac
    case "$at" in /dev|/dev/*) continue ;; esac
    mount -o remount,bind,ro "$at" 2>/dev/null || true
done < /proc/self/mountinfo
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""


def confined(writable: Sequence[Path], command: Sequence[str]) -> Sequence[str]:
    """A command line that runs another one as the first process of a container with a read-only root and no capabilities.

    Args:
        writable: directories, whose names have no spaces.
    """
    names = " ".join(map(str, writable))
    return [*_UNSHARE, "env", f"WRITABLE={names}", "sh", "-ec", _CONFINE, "sh", *command]


@functools.cache
def can_confine() -> bool:
    """Whether this kernel lets this user make such a container."""
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return False
    probe = confined(
        [],
        [
            "sh",
            "-c",
            "! touch /etc/graftwork-probe 2>/dev/null && test $$ = 1 && grep -q 'CapEff:.0*$' /proc/self/status",
        ],
    )
    return subprocess.run(probe, capture_output=True, timeout=30).returncode == 0


def instructions(name: str) -> Sequence[str]:
    """What follows each instruction of that name in the Dockerfile, on one line."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text())
    return [line.removeprefix(f"{name} ") for line in text.splitlines() if line.startswith(f"{name} ")]
