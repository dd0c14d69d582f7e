from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import weakref

from service.worker.process import interrupts_held, keep_all
from tests.processes import process_state, wait_for


def test_a_worker_has_nothing_heavy_until_it_opens_its_models() -> None:
    code = (
        "import sys, service.worker.worker, service.worker.process\n"
        "heavy = {'torch', 'numpy', 'grpc', 'tritonclient', 'timm', 'transformers', 'PIL', 'sklearn'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


ORPHAN = """
import multiprocessing, os, signal, sys, time
from service.worker.process import die_with_parent

def child(early):
    if early:
        os.kill(os.getppid(), signal.SIGKILL)
        while multiprocessing.parent_process().is_alive():
            time.sleep(0.01)
    die_with_parent(signal.SIGKILL)
    print(os.getpid(), flush=True)
    time.sleep(60)

process = multiprocessing.get_context("fork").Process(target=child, args=(len(sys.argv) > 1,))
process.start()
process.join()
"""


def test_a_child_dies_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    wait_for(lambda: process_state(child) in "ZX", 10)
    parent.stdout.close()


def test_a_child_whose_parent_is_dead_already_dies_too() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN, "early"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.read() == ""  # it ends without a word, and not after a minute
    assert parent.wait() == -signal.SIGKILL
    parent.stdout.close()


CANNOT_START = """
from types import SimpleNamespace
from service.worker.process import EngineLoop

def fail(settings, device, threads):
    raise RuntimeError("no weights")

EngineLoop()(SimpleNamespace(settings=SimpleNamespace(workers=1), open_servables=fail), ["cpu"], 3)
"""


def test_l07_a_worker_that_cannot_start_says_why_as_json() -> None:
    ended = subprocess.run([sys.executable, "-c", CANNOT_START], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    found = json.loads(line)
    assert found["message"] == "worker 3 failed"
    assert "RuntimeError: no weights" in found["traceback"]


def test_what_a_worker_keeps_is_not_looked_at_again_and_garbage_is_not_kept() -> None:
    class Circle:
        def __init__(self) -> None:
            self.itself = self

    garbage, kept = Circle(), Circle()
    gone, held = weakref.ref(garbage), weakref.ref(kept)
    del garbage
    try:
        keep_all()
        assert gone() is None
        assert gc.get_freeze_count() > 1000
        del kept
        gc.collect()
        assert held() is not None
        keep_all()
        assert held() is None
    finally:
        gc.unfreeze()


def test_an_interrupt_waits_until_it_is_welcome() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            assert seen == []
        assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_process_that_is_spawned_meanwhile_starts_with_it_held() -> None:
    code = (
        "import signal\n"
        "assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())\n"
        "signal.raise_signal(signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"  # what a worker does before it is interested
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})\n"
    )
    with interrupts_held():
        process = subprocess.Popen([sys.executable, "-c", code])
    assert process.wait(30) == 0
