from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import log as log_module
from service.auth.key import new_secret
from service.log import AccessRecord, BackgroundHandler, JsonLines
from tests.processes import wait_for


def entry(record: logging.LogRecord) -> dict[str, object]:
    line = JsonLines().format(record)
    assert "\n" not in line
    assert "\r" not in line
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


# One JSON object a line


@given(st.text())
def test_a_path_cannot_forge_a_record(path: str) -> None:
    assert entry(AccessRecord({"path": path}))["path"] == path


@given(st.text(st.characters(exclude_categories=[])))
def test_a_message_may_be_any_text(text: str) -> None:
    assert entry(logging.LogRecord("x", logging.ERROR, "", 0, "%s", (text,), None))["message"] == text


def test_the_secret_of_a_key_is_never_written_wherever_it_got_to() -> None:
    secret = new_secret()
    key_id = secret[3:11]
    try:
        raise ValueError(f"no such thing: {secret}")
    except ValueError:
        failure = logging.LogRecord("x", logging.ERROR, "", 0, "%s failed", (secret,), sys.exc_info())
    cut = secret[:-10]  # a field was too long
    for record in (failure, AccessRecord({"path": f"/v1/models/{secret}", "request_id": secret, "key": cut})):
        line = JsonLines().format(record)
        assert secret[12:-10] not in line
        assert f"gw_{key_id}_..." in line
        json.loads(line)


def test_a_traceback_stays_on_its_line() -> None:
    try:
        raise ValueError('a\n{"level": "forged"}')
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "what %s", ("it\nwas",), sys.exc_info())
    found = entry(record)
    assert found["message"] == "what it\nwas"
    assert "ValueError" in str(found["traceback"])


def test_a_field_that_is_no_json_is_told_in_words() -> None:
    record = AccessRecord({"path": Path("/x"), "code": None, "ms": 0.25})
    found = entry(record)
    assert (found["path"], found["code"], found["ms"]) == ("/x", None, 0.25)


def test_lines_say_when(monkeypatch: pytest.MonkeyPatch) -> None:
    formatter = JsonLines()
    for second in (1.0, 1.9, 2.0, 86_400.5, 1.0):
        record = AccessRecord({})
        record.created = second
        told = time.mktime(time.strptime(json.loads(formatter.format(record))["time"][:19], "%Y-%m-%dT%H:%M:%S"))
        assert told == int(second)


def test_a_request_is_a_record_like_any_other() -> None:
    """Whoever else formats it, or looks at it, finds what every record has."""
    plain = logging.LogRecord("graftwork.access", logging.INFO, "", 0, "request", None, None)
    record = AccessRecord({"status": 200})
    assert set(plain.__dict__) <= set(record.__dict__)
    assert record.getMessage() == plain.getMessage() == "request"
    fields = " ".join(f"%({name})s" for name in plain.__dict__)
    assert "graftwork.access" in logging.Formatter(fields).format(record)
    assert AccessRecord({}).__dict__ is not record.__dict__


# Written beside the work


class Pipe:
    """A log that is a pipe.

    Attributes:
        logger: writes into it.
    """

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.handler = BackgroundHandler(self.writer)
        self.logger = logging.Logger("test")
        self.logger.addHandler(self.handler)

    def read(self, lines: int) -> list[dict[str, object]]:
        """So many lines, and not a byte more."""
        data = b""
        while data.count(b"\n") < lines:
            data += os.read(self.reader, 1 << 20)
        found = [json.loads(line) for line in data.splitlines()]
        assert len(found) == lines
        return found


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    for descriptor in (made.reader, made.writer):
        with suppress(OSError):  # the test did
            os.close(descriptor)


def test_lines_arrive_in_order(pipe: Pipe) -> None:
    for number in range(500):
        pipe.logger.info("%d", number)
    assert [found["message"] for found in pipe.read(500)] == [str(number) for number in range(500)]


def test_lines_of_several_threads_are_not_lost_or_mixed(pipe: Pipe) -> None:
    def log(thread: int) -> None:
        for number in range(200):
            pipe.logger.info("%d", 1000 * thread + number)

    threads = [threading.Thread(target=log, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    found = sorted(int(str(line["message"])) for line in pipe.read(800))
    assert found == [1000 * thread + number for thread in range(4) for number in range(200)]
    for thread in threads:
        thread.join()


def test_flush_waits_until_all_is_written(pipe: Pipe) -> None:
    for number in range(20):
        pipe.logger.info("%d", number)
        pipe.handler.flush()
        os.set_blocking(pipe.reader, False)
        assert json.loads(os.read(pipe.reader, 1 << 16))["message"] == str(number)


def test_a_message_that_cannot_be_formatted_fails_nobody(pipe: Pipe) -> None:
    pipe.logger.info("%d", "no number")
    pipe.logger.info("next")
    assert [line["message"] for line in pipe.read(2)] == ["a record could not be formatted", "next"]


def test_l17_a_log_that_nobody_reads_holds_up_nobody(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "MOST_WAITING", 100)
    monkeypatch.setattr(log_module, "FLUSH_SECONDS", 0.01)
    pipe.logger.info("x" * (1 << 20))  # more than a pipe holds: whoever writes it is stuck
    wait_for(lambda: not pipe.handler._lines, 30)
    for number in range(250):
        pipe.logger.info("%d", number)
    pipe.handler.flush()
    found = pipe.read(1 + 100 + 1)
    assert [line["message"] for line in found[1:101]] == [str(number) for number in range(100)]
    assert found[101]["message"] == "150 lines were dropped"
    pipe.logger.info("after")
    assert [line["message"] for line in pipe.read(1)] == ["after"]


def test_l17_a_log_whose_reader_is_gone_fails_nobody(pipe: Pipe) -> None:
    os.close(pipe.reader)
    for _ in range(3):
        pipe.logger.info("into the void")
        pipe.handler.flush()


def test_l18_a_log_for_which_no_thread_can_be_started_is_written_at_once(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    os.set_blocking(pipe.reader, False)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for number in range(3):
            pipe.logger.info("%d", number)
            assert [line["message"] for line in pipe.read(1)] == [str(number)]
    pipe.logger.info("with a thread")
    pipe.handler.flush()
    assert [line["message"] for line in pipe.read(1)] == ["with a thread"]


WITHOUT_STDERR = """
import sys

other = open(sys.argv[1], "wb")
assert other.fileno() == 2

import logging
from service.log import configure_logging, flush_log

configure_logging()
logging.error("for nobody")
flush_log()
"""


def test_l17_a_process_without_stderr_writes_into_no_other_file(tmp_path: Path) -> None:
    other = tmp_path / "other"
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", WITHOUT_STDERR, str(other)]
    assert subprocess.run(command, check=False).returncode == 0
    assert other.read_bytes() == b""


WHOLE = """
import logging, os, sys
from service.log import configure_logging, flush_log

configure_logging()
logging.getLogger("anything").warning("look %d", 1)
logging.getLogger("uvicorn").info("not worth a line")
if sys.argv[1] == "abruptly":
    flush_log()
    os._exit(0)
"""


@pytest.mark.parametrize("end", ["orderly", "abruptly"])
def test_a_process_logs_to_stderr_as_json_until_its_end(end: str) -> None:
    ended = subprocess.run([sys.executable, "-c", WHOLE, end], capture_output=True, text=True, check=True)
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    found = json.loads(line)
    assert (found["level"], found["logger"], found["message"]) == ("warning", "anything", "look 1")


FORK = """
import logging, os
from service.log import configure_logging, flush_log

configure_logging()
logging.warning("parent")
child = os.fork()
if child == 0:
    logging.warning("child")
    flush_log()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_fork_writes_its_own_lines_only() -> None:
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, check=True)
    assert sorted(json.loads(line)["message"] for line in ended.stderr.splitlines()) == ["child", "parent"]


@pytest.mark.parametrize("evil", ["\x85", "\u2028", "\u2029", "\x9b31m", "\x7f", "\x1b[2J", "\n", "\ud800"])
def test_no_character_of_a_caller_ends_a_line_or_reaches_a_terminal(evil: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "path %s", (f"/{evil}",), None)
    line = JsonLines().format(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == f"path /{evil}"
