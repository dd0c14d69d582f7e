"""The page is of this server alone, and its script asks for a key where the document needs one."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from service.api import docs
from service.api.schemas import SECURITY_SCHEMES
from service.auth.key import Scope
from service.auth.key_file import KeyFile
from tests.server_process import Reply
from tests.service.site import Play, Site

TYPES = {"script": "text/javascript; charset=utf-8", "stylesheet": "text/css; charset=utf-8"}
NODE = shutil.which("node")
SCRIPT = docs._PAGE / "init.js"


class Page(HTMLParser):
    """What a page loads, what its scripts find by id, and whether any script or handler stands in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[tuple[str, str]] = []
        self.ids: set[str] = set()
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.inline += [name for name in found if name.startswith("on") or name == "style"]
        self.inline += [tag] if tag in ("style", "base") else []
        self.ids |= {str(found["id"])} if "id" in found else set()
        if tag == "script":
            assert found.get("src"), "a script stands in the page"
        for name in ("src", "href"):
            if name in found:
                self.loaded.append((str(found.get("rel") or tag), str(found[name])))


async def get(site: Site, address: str, **headers: str) -> Reply:
    parts = urlsplit(address)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await site.request("GET", parts.path, query=parts.query, headers=named)


def policy(reply: Reply) -> dict[str, set[str]]:
    found = (each.split() for each in reply.headers["content-security-policy"].split(";"))
    return {name: set(sources) for name, *sources in found}


def test_whatever_the_page_loads_is_here(play: Play) -> None:
    async def story(site: Site) -> None:
        reply = await get(site, "/docs")
        assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
        page = Page(reply.body.decode())
        assert page.inline == []
        assert ("icon", "data:,") in page.loaded  # or browsers ask for /favicon.ico
        addresses = [(kind, address) for kind, address in page.loaded if kind != "icon"]
        assert sorted(kind for kind, _ in addresses) == ["script", "script", "stylesheet"]
        for kind, address in addresses:
            assert urlsplit(urljoin("http://here/docs", address)).netloc == "here"
            found = await get(site, address)
            assert (found.status, found.headers["content-type"]) == (200, TYPES[kind]), address
        assert (await site.get("/openapi.json")).status == 200

    play(story, workers=0)


def test_the_policy_allows_what_the_page_needs_and_nothing_else(play: Play) -> None:
    async def story(site: Site) -> None:
        for path in ("/docs", "/docs/init.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"):
            reply = await get(site, path)
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.headers["x-frame-options"] == "DENY"
            assert policy(reply) == {
                "default-src": {"'none'"},
                "script-src": {"'self'"},
                "style-src": {"'self'", "'unsafe-inline'"},
                "img-src": {"'self'", "data:"},
                "connect-src": {"'self'"},
                **{name: {"'none'"} for name in ("base-uri", "form-action", "frame-ancestors")},
            }
        style = (await get(site, "/docs/swagger-ui.css")).body.decode()
        assert all(address.startswith("data:") for address in re.findall(r"url\(\"?([^)\"]+)", style))
        assert "@import" not in style

    play(story, workers=0)


def test_files_are_those_of_the_package_which_is_not_imported(play: Play) -> None:
    folder = docs.swagger_ui()

    async def story(site: Site) -> None:
        for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
            assert (await get(site, f"/docs/{name}")).body == (folder / name).read_bytes()
        assert (await get(site, "/docs/init.js")).body == SCRIPT.read_bytes()
        for name in ("index.html", "redoc.standalone.js", "__init__.py", ".."):
            assert (await get(site, f"/docs/{name}")).code == "route_not_found"

    play(story, workers=0)
    code = "import sys; from service.api import docs; docs._assets(); print('fastapi_offline' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "False\n"


def test_without_the_package_the_cure_is_named(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "_SWAGGER_UI", "no_such_package")

    async def story(site: Site) -> None:
        reply = await get(site, "/docs")
        assert (reply.status, reply.code) == (404, "route_not_found")
        assert "pip install fastapi-offline" in reply.json()["detail"]

    play(story, workers=0)


def test_a_file_is_kept_and_comes_again_only_when_it_is_another(play: Play) -> None:
    async def story(site: Site) -> None:
        page = Page((await get(site, "/docs")).body.decode())
        for address in [address for kind, address in page.loaded if kind != "icon"]:
            reply = await get(site, address)
            assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
            etag = reply.headers["etag"]
            for known, status in [(etag, 304), (f'"other", {etag}', 304), ('W/"other"', 200)]:
                again = await get(site, address, if_none_match=known)
                assert (again.status, again.headers["etag"]) == (status, etag)
                assert bool(again.body) is (status == 200)
            # An address without the content's digest, as that of the page, may get other content one day.
            assert (await get(site, urlsplit(address).path)).headers["cache-control"] == "no-cache"
        assert (await get(site, "/docs")).headers["cache-control"] == "no-cache"

    play(story, workers=0)


def test_it_is_compressed_for_those_who_take_it(play: Play) -> None:
    async def story(site: Site) -> None:
        plain = await get(site, "/docs/swagger-ui-bundle.js", accept_encoding="br, gzip;q=0")
        assert "content-encoding" not in plain.headers
        small = await get(site, "/docs/swagger-ui-bundle.js", accept_encoding="gzip, br")
        assert small.headers["content-encoding"] == "gzip"
        assert gzip.decompress(small.body) == plain.body
        assert 3 * len(small.body) < len(plain.body)
        assert small.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
        assert [int(each.headers["content-length"]) for each in (plain, small)] == [len(plain.body), len(small.body)]

    play(story, workers=0)


def test_it_is_where_the_document_is(play: Play, tmp_path: Path) -> None:
    async def without_keys(site: Site) -> None:
        for path in ("/docs", "/docs/init.js"):
            assert (await get(site, path)).code == "route_not_found"

    async def with_keys(site: Site) -> None:
        assert (await get(site, "/docs")).status == 200
        refused = await get(site, "/openapi.json")
        assert (refused.status, refused.code) == (401, "unauthorized")

    play(without_keys, workers=0, host="0.0.0.0")
    KeyFile(tmp_path / "keys.json").create("somebody", [Scope.PREDICT])
    play(with_keys, workers=0, host="0.0.0.0", keys=tmp_path / "keys.json")


# A browser in a few lines: it runs the script on elements of the page, and says what Swagger UI was given.
BROWSER = """
const [script, ids, answers] = process.argv.slice(1);
const replies = JSON.parse(answers), said = [], elements = {};
for (const id of JSON.parse(ids)) {
  elements[id] = { hidden: id === "ask", value: "", addEventListener(name, handler) { this[name] = handler; } };
}
const world = {
  document: { getElementById: (id) => elements[id] },
  fetch: async (address, options) => {
    const [status, body] = replies.shift();
    said.push({ fetched: address, key: options.headers.Authorization ?? null });
    return { ok: status === 200, status, json: async () => body };
  },
  SwaggerUIBundle: ({ onComplete, ...given }) => {
    said.push({ shown: given });
    setTimeout(onComplete);
    return { preauthorizeApiKey: (scheme, key) => said.push({ scheme, key }) };
  },
};
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));
require("vm").runInNewContext(require("fs").readFileSync(script, "utf8"), world);
(async () => {
  await settled();
  while (replies.length) {
    said.push({ asked: elements.why.textContent, hidden: elements.ask.hidden });
    elements.key.value = "sk-" + replies.length;
    elements.ask.submit({ preventDefault() { said.push("stayed"); } });
    await settled();
  }
  said.push({ hidden: elements.ask.hidden });
  console.log(JSON.stringify(said));
})();
"""


def browse(*answers: tuple[int, Any]) -> list[Any]:
    """What happens in a page whose requests for the document are answered with these, after a key for each but the first."""
    ids = sorted(Page((docs._PAGE / "index.html").read_text()).ids)
    command = [str(NODE), "--disallow-code-generation-from-strings", "-e", BROWSER, "--"]
    done = subprocess.run(
        [*command, str(SCRIPT), json.dumps(ids), json.dumps(answers)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


SHOWN = {"spec": {"openapi": "3.1.1"}, "dom_id": "#swagger-ui", "deepLinking": True, "validatorUrl": None}


@pytest.mark.skipif(NODE is None, reason="there is no node")
def test_the_script_shows_the_document() -> None:
    said = browse((200, SHOWN["spec"]))
    assert said == [{"fetched": "/openapi.json", "key": None}, {"shown": SHOWN}, {"hidden": True}]


@pytest.mark.skipif(NODE is None, reason="there is no node")
def test_the_script_asks_for_a_key_until_the_document_comes() -> None:
    """The key is then that of requests which are tried from the page."""
    said = browse((401, {"detail": "show a key"}), (403, {"detail": "not this one"}), (200, SHOWN["spec"]))
    assert said == [
        {"fetched": "/openapi.json", "key": None},
        {"asked": "show a key", "hidden": False},
        "stayed",
        {"fetched": "/openapi.json", "key": "Bearer sk-2"},
        {"asked": "not this one", "hidden": False},
        "stayed",
        {"fetched": "/openapi.json", "key": "Bearer sk-1"},
        {"shown": SHOWN},
        {"scheme": "bearer", "key": "sk-1"},
        {"hidden": True},
    ]
    assert SECURITY_SCHEMES["bearer"]["scheme"] == "bearer"


@pytest.mark.skipif(NODE is None, reason="there is no node")
def test_swagger_ui_makes_no_code_out_of_strings_as_it_is_loaded() -> None:
    """The policy would not let it."""
    code = "const ui = require(process.argv[1]); if (typeof ui !== 'function') throw new Error(typeof ui)"
    bundle = str(docs.swagger_ui() / "swagger-ui-bundle.js")
    command = [str(NODE), "--disallow-code-generation-from-strings", "-e", code, "--", bundle]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
