"""Row H09: names that are paths, or would be to a careless reader."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import unquote

from models.repository import ModelRepository
from tests.server_process import json_body
from tests.service.audit import touched_files
from tests.service.site import Play, Site

ODD_NAMES = [
    "../etc",
    "..",
    ".",
    "//",
    "a/../b",
    "%2e%2e",
    "%2e%2e%2f",
    "..%2f..%2fetc%2fpasswd",
    "%2fetc%2fpasswd",
    "%252e%252e",
    "%252e%252e%252f",
    "..%5c",
    "..;/",
    "%00",
    "letters%00",
    "letters%00.png",
    "%ff",
    "%c0%ae%c0%ae%c0%af",
    "%ef%bc%8e%ef%bc%8e%ef%bc%8f",  # fullwidth dots and a fullwidth slash
    "%ef%bd%8cetters",  # a fullwidth l
    "caf%c3%a9",
    "x" * 300,
    "%20",
    "%09",
    "%0a",
    "%c2%a0",
    "a%20b",
    "letters%20",
    "letters%0a",
    "-a",
    "~root",
    ".backbones",
    "staging",
]
ODD_PATHS = [
    ("GET", "/v1/models/{}"),
    ("GET", "/v1/models/{}/metadata"),
    ("POST", "/v1/models/{}:predict"),
    ("POST", "/v1/models/{}/versions/1:predict"),
    ("POST", "/v1/models/{}/labels/champion:predict"),
    ("POST", "/v1/models/letters/versions/{}:predict"),
    ("POST", "/v1/models/letters/labels/{}:predict"),
]


VALID = ("unheard-of", "staging")  # but there is none that is called so
ADMIN_PATHS = [
    ("PUT", "/v1/models/{}/labels/champion", {"version": 999}),
    ("PUT", "/v1/models/letters/labels/{}", {"version": 999}),
    ("POST", "/v1/models/{}/labels/champion:rollback", {}),
    ("POST", "/v1/models/letters/labels/{}:rollback", {"expect": 999}),
    ("DELETE", "/v1/models/{}/labels/champion", None),
    ("DELETE", "/v1/models/{}/versions/1", None),
    ("DELETE", "/v1/models/letters/versions/{}", None),
    ("PUT", "/v1/models/{}/keep", {"keep": "all"}),
]


def test_h09_an_operators_names_that_are_paths_are_refused_and_touch_no_file(
    play: Play, texts_on_disk: ModelRepository
) -> None:
    async def story(site: Site) -> None:
        async def ask(name: str) -> None:
            for method, path, document in ADMIN_PATHS:
                body = [] if document is None else [json.dumps(document).encode()]
                where = unquote(path.format(name))
                headers = {"Content-Type": "application/json", "Host": "127.0.0.1"}
                reply = await site.request(method, where, *body, headers=headers)
                assert reply.status in ((400, 404, 409) if name in VALID else (400, 404)), (method, where, reply.body)

        await ask("unheard-of")
        files = {path: path.read_bytes() for path in texts_on_disk.root.rglob("*") if path.is_file()}
        with touched_files() as touched:
            for name in ODD_NAMES:
                await ask(name)
        assert [path for path in touched if not path.is_relative_to(texts_on_disk.root)] == []
        log = texts_on_disk.root / ".audit.jsonl"
        changed = [path for path, data in files.items() if path.read_bytes() != data and path != log]
        assert changed == []

    play(story, admin=True, repository=texts_on_disk.root)


def test_h09_names_that_are_paths_are_refused_and_touch_no_file(play: Play, models_on_disk: Path) -> None:
    async def story(site: Site) -> None:
        async def ask(name: str) -> None:
            for method, path in ODD_PATHS:
                reply = await site.request(
                    method, unquote(path.format(name)), json_body(["1"])
                )  # as a server decodes it
                assert reply.status in (400, 404), (method, path, name, reply.body)
                assert reply.json()["code"] in (
                    "invalid_parameter",
                    "route_not_found",
                    "model_not_found",
                    "version_not_found",
                )

        await ask("unheard-of")  # imports what is imported when the first error is made
        with touched_files() as touched:
            for name in ODD_NAMES:
                await ask(name)
            assert (await site.predict("letters", ["1"])).status == 200
        assert [path for path in touched if not path.is_relative_to(models_on_disk)] == []
        assert await site.outcomes() == {
            ("letters", "ok", "1"): 1,
            ("_unknown", "client_error", "_unknown"): sum((await site.outcomes()).values()) - 1,
        }

    play(story)


def test_h09_the_end_of_a_line_behind_a_path_makes_it_another_one(play: Play) -> None:
    async def story(site: Site) -> None:
        for where in ("", "/versions/1", "/labels/champion"):
            reply = await site.request("POST", f"/v1/models/letters{where}:predict\n", json_body(["1"]))
            assert (reply.status, reply.json()["code"]) == (404, "route_not_found"), reply.body

    play(story)


def test_h09_the_audit_sees_every_file_that_is_touched(tmp_path: Path) -> None:
    with touched_files() as touched:
        (tmp_path / "written").write_bytes(b"")
        os.listdir(tmp_path)
        os.close(os.open("/etc/../etc/passwd", os.O_RDONLY))
    assert touched == [tmp_path / "written", tmp_path, Path("/etc/passwd")]
    Path("/etc/passwd").read_bytes()
    assert len(touched) == 3
