"""Notes what a Python process loads, runs and speaks to, from its first line on (PEP 578): `tests.service.watch` reads it.

Python imports a module of this name when it starts, wherever PYTHONPATH leads to one; so do the processes that it starts.
"""

from __future__ import annotations

import json
import os
import sys
from types import FrameType

NOTES, ROOT = os.environ["WATCH_NOTES"], os.environ["WATCH_ROOT"]
ANYWHERE = {
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pickle.find_class",
    "pty.spawn",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendmsg",
    "socket.sendto",
    "subprocess.Popen",
}
BELOW_ROOT = {"compile", "ctypes.dlopen", "exec", "import"}  # by what they read


def note(event: str, arguments: tuple[object, ...]) -> None:
    if event in ANYWHERE:
        what = f"{getattr(arguments[0], 'family', '')!s} {arguments!r}".strip()
    elif event in BELOW_ROOT:
        files = [str(getattr(each, "co_filename", each)) for each in arguments if not isinstance(each, bytes)]
        what = next((file for file in files if file.startswith(ROOT)), "")
    elif event == "marshal.loads":
        caller = sys._getframe(1).f_code.co_filename
        what = "" if caller.startswith("<frozen ") else "bytecode"  # how modules are read that were compiled before
    else:
        return
    if what:
        line = {"pid": os.getpid(), "event": event, "what": what[:500], "stack": stack(sys._getframe(1))}
        os.write(notes, json.dumps(line).encode() + b"\n")


def stack(frame: FrameType | None) -> list[str]:
    """The innermost call first."""
    found = []
    while frame is not None and len(found) < 12:
        found.append(f"{frame.f_code.co_filename}:{frame.f_code.co_name}")
        frame = frame.f_back
    return found


notes = os.open(NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
sys.addaudithook(note)
