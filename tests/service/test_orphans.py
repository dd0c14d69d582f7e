from __future__ import annotations

import subprocess
import sys

REAPS = """
import os

from service.orphans import reap_orphans

reap_orphans(set())
spawn = lambda: os.posix_spawn("/bin/true", ["true"], {})
own, orphans = spawn(), [spawn() for _ in range(3)]
for pid in (own, *orphans):
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
running = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})

reap_orphans({own})
reap_orphans({own})
assert os.waitpid(own, 0) == (own, 0)
reap_orphans({own})
for pid in orphans:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        continue
    raise AssertionError(f"{pid} was not waited for")
os.kill(running, 9)
assert os.waitpid(running, 0) == (running, 9)
"""


def test_children_that_nobody_waits_for_are_waited_for() -> None:
    """In a process of its own, as the children of this one are waited for by others."""
    done = subprocess.run([sys.executable, "-c", REAPS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
