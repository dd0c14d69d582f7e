"""Users of locust who ask a Graftwork server, and look at every answer.

    locust -f deploy/load/locustfile.py --host http://127.0.0.1:8000 --images photos/ --image-model flowers \
        --texts docs.csv --text-model docs --embedding-model all-MiniLM-L6-v2 --headless --users 32 --run-time 30s

Each kind of task is there where its data and model are named; each is a line a model of locust's table. A wrong answer is a
failure like any error: what it should have been stands in the table of failures, and the exit code is 1.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import gevent
from answers import TOLERANCE, Answers
from items import Item, read_items
from locust import FastHttpUser, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment


class Questions:
    """What is asked of one model, by all users in turn.

    Args:
        name: of the line in locust's table.
    """

    def __init__(self, name: str, items: list[Item], tolerance: float) -> None:
        self.name = name
        self.items = items
        self.answers = Answers(items, tolerance=tolerance)
        self._run = uuid4().hex[:8]
        self._turn: Iterator[int] = itertools.cycle(range(len(items)))

    def next(self) -> tuple[int, str]:
        """An item's index, and the id of all requests for it."""
        index = next(self._turn)
        return index, f"load-{self._run}-{index}"


class Caller(FastHttpUser):
    """Asks one question after the other; after a refusal, once its Retry-After is over."""

    host = "http://127.0.0.1:8000"
    insecure = False
    questions: tuple[Questions, ...] = ()
    headers: dict[str, str] = {}  # noqa: RUF012
    think_seconds = 0.0

    def wait_time(self) -> float:
        """Seconds between an answer and the next question."""
        return random.expovariate(1 / self.think_seconds) if self.think_seconds else 0.0

    def ask(self) -> None:
        """One request."""
        asked = random.choice(self.questions)
        index, request_id = asked.next()
        item = asked.items[index]
        headers = {**self.headers, "Content-Type": item.content_type, "X-Request-Id": request_id}
        wait = 0.0
        with self.client.post(
            item.path, data=item.body, headers=headers, name=asked.name, catch_response=True
        ) as response:
            if response.status_code == 0:
                response.failure("no answer")
            elif response.status_code != 200:
                response.failure(f"status {response.status_code}")
                seconds = response.headers.get("retry-after", "")
                wait = float(seconds) if seconds.isdigit() else 0.0
            elif complaint := asked.answers.complaint(index, response.content, request_id):
                response.failure(f"{item.name}: {complaint}")
        if wait:
            gevent.sleep(wait)

    tasks = [ask]  # noqa: RUF012


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """What is asked, and of whom; each option has a variable of the environment."""

    def add(name: str, text: str, **settings: Any) -> None:
        variable = f"GRAFTWORK_LOAD_{name.upper().replace('-', '_')}"
        parser.add_argument(f"--{name}", env_var=variable, help=text, **settings)

    add("images", "folder of images", default="")
    add("image-model", "model that is asked about them; several with a comma between", default="")
    add("texts", "file of texts: TXT, CSV, TSV or JSONL", default="")
    add("text-column", "of CSV, TSV and JSONL", default="text")
    add("text-model", "model that is asked about them; several with a comma between", default="")
    add("embedding-model", "model or backbone that embeds the texts, or the images where there are none", default="")
    add("think-time", "mean seconds between an answer and a user's next question", type=float, default=0.0)
    add("tolerance", "of numbers in answers", type=float, default=TOLERANCE)
    parser.add_argument("--api-key", env_var="GRAFTWORK_API_KEY", default="", is_secret=True, help="of the server")


@events.init.add_listener
def read_options(environment: Environment, **_: object) -> None:
    """Reads what the options name; ends the program where that is nothing."""
    options = environment.parsed_options
    assert options is not None
    found = []
    try:
        for data, models in ((options.images, options.image_model), (options.texts, options.text_model)):
            for model in filter(None, models.split(",")):
                items = read_items(Path(data), models=[model], text_column=options.text_column)
                found.append(Questions(f"predict {model}", items, options.tolerance))
        if model := options.embedding_model:
            data = Path(options.texts or options.images)
            items = read_items(data, models=[model], ask="embeddings", text_column=options.text_column)
            found.append(Questions(f"embeddings {model}", items, options.tolerance))
        if not found:
            raise ValueError("name data and a model: --images and --image-model, or --texts and --text-model")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    Caller.questions = tuple(found)
    Caller.think_seconds = options.think_time
    Caller.headers = {"Authorization": f"Bearer {options.api_key}"} if options.api_key else {}
