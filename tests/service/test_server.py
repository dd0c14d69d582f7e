"""The real server over real HTTP, in the state in which it is meant to stay: up. How it ends is in test_lifecycle."""

from __future__ import annotations

import base64
import random
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from models.predictor import Predictor
from tests.processes import wait_for
from tests.server_process import Reply, ServerProcess, json_body, ready_server
from tests.service.answers import TOLERANCE, check, check_refusal, scores, send_image
from tests.tiny_models import LETTERS, picture

pytestmark = pytest.mark.usefixtures("nothing_dies")

FORM = {"content-type": "application/x-www-form-urlencoded"}  # what curl --data-binary says


def encoded(*images: bytes) -> bytes:
    return json_body([{"b64": base64.b64encode(image).decode()} for image in images])


def test_one_raw_image_as_curl_sends_it(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    for file_format in ("PNG", "JPEG", "WEBP"):
        image = picture(1, file_format=file_format)
        for headers in (FORM, {"content-type": "application/octet-stream"}, {"content-type": "image/png"}):
            check(server.request("POST", "/v1/models/colours:predict", image, headers), predictors["colours"], [image])


def test_images_in_json_and_in_a_form(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    images = [picture(2), picture(3, size=(300, 100), file_format="JPEG")]
    check(server.request("POST", "/v1/models/colours:predict", encoded(*images)), predictors["colours"], images)
    parts = b"".join(
        b'--XX\r\nContent-Disposition: form-data; name="i"; filename="i"\r\n\r\n%s\r\n' % i for i in images
    )
    headers = {"content-type": "multipart/form-data; boundary=XX"}
    reply = server.request("POST", "/v1/models/colours:predict", parts + b"--XX--\r\n", headers)
    check(reply, predictors["colours"], images)


def test_texts_in_json_and_one_plain_text(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    texts = ["first", "the second one, which is longer", "3!"]
    for model in ("letters", "moods"):
        check(server.predict(model, texts), predictors[model], texts)
    plain = server.request("POST", "/v1/models/letters:predict", b"{ plain", {"content-type": "text/plain"})
    check(plain, predictors["letters"], ["{ plain"])


def test_versions_labels_and_options(server: ServerProcess) -> None:
    reply = server.request("POST", "/v1/models/letters/versions/1:predict?top_k=2", json_body(["abc"]))
    prediction = reply.json()["predictions"][0]
    assert len(prediction["scores"]) == 2
    assert list(prediction["scores"].values()) == sorted(prediction["scores"].values(), reverse=True)
    assert prediction["label"] == next(iter(prediction["scores"]))
    assert (reply.json()["model"], reply.json()["version"]) == ("letters", 1)
    check_refusal(
        server.request("POST", "/v1/models/letters/labels/champion:predict", json_body(["abc"])),
        404,
        "version_not_found",
    )
    assert sum(server.predict("letters", ["abc"]).json()["predictions"][0]["scores"].values()) == pytest.approx(1)


def test_the_other_routes(server: ServerProcess) -> None:
    assert server.request("GET", "/v1/models").json()["models"] == ["colours", "letters", "moods"]
    status = server.request("GET", "/v1/models/letters").json()
    assert status["versions"] == [{"version": 1, "state": "ready"}]
    metadata = server.request("GET", "/v1/models/letters/metadata").json()
    assert metadata["labels"] == list(LETTERS)
    assert metadata["backbone"]["source"].startswith("dir:")
    assert "/" not in metadata["backbone"]["source"]  # no path of whoever published it
    assert server.request("GET", "/health/live").json() == {"live": True}
    assert server.request("GET", "/health/ready").json() == {"ready": True}
    assert server.metric("graftwork_loaded_versions") == {(name, "1"): 1 for name in ("colours", "letters", "moods")}
    for path in ("/v1/models", "/v1/models/letters", "/v1/models/letters/metadata", "/health/ready", "/metrics"):
        head = server.request("HEAD", path)
        assert (head.status, head.body) == (200, b"")
    for method, path, allow in [
        ("GET", "/v1/models/letters:predict", "POST"),
        ("DELETE", "/v1/models/letters/metadata", "GET"),
    ]:
        reply = server.request(method, path)
        check_refusal(reply, 405, "method_not_allowed")
        assert allow in reply.headers["allow"]
    check_refusal(server.request("GET", "/nowhere"), 404, "route_not_found")
    assert "server" not in server.request("GET", "/health/live").headers


def test_many_at_once_each_get_their_own_answer(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    """32 threads, three models, unique inputs: nothing is crossed or lost, and rows did share batches."""
    asked: list[tuple[str, list[Any]]] = []
    for number in range(64):
        asked.append(("colours", [picture(1000 + number)]))
        asked.append(("letters", [f"letter {number}", f"{number} and more of it"[: 5 + number % 20]]))
        asked.append(("moods", [f"mood {number * 7919}"]))
    random.Random(0).shuffle(asked)
    wanted = {
        name: iter(
            predictors[name].predict([item for model, items in asked if model == name for item in items]).tolist()
        )
        for name in predictors
    }
    expected = [[next(wanted[model]) for _ in items] for model, items in asked]
    told_apart = {
        (model, *(round(score, 4) for score in row))
        for (model, _), rows in zip(asked, expected, strict=True)
        for row in rows
    }
    assert len(told_apart) > 0.9 * sum(len(items) for _, items in asked)

    def ask(request: tuple[str, list[Any]]) -> Reply:
        model, items = request
        if model == "colours":
            return send_image(server, items[0], "image/png")
        return server.predict(model, items)

    before = server.metric("graftwork_requests_total"), batches(server)
    with ThreadPoolExecutor(32) as threads:
        replies = list(threads.map(ask, asked))
    for (model, _), rows, reply in zip(asked, expected, replies, strict=True):
        assert reply.json()["model"] == model
        for found, row in zip(scores(reply, predictors[model].labels), rows, strict=True):
            assert found == pytest.approx(row, abs=TOLERANCE)
    counted = Counter(server.metric("graftwork_requests_total"))
    counted.subtract(before[0])
    assert +counted == {(model, "ok", "1"): 64 for model in predictors}
    rows_before, batches_before = before[1]
    rows_after, batches_after = batches(server)
    assert rows_after - rows_before == sum(len(items) for _, items in asked)
    assert rows_after - rows_before > batches_after - batches_before
    assert server.metric("graftwork_in_flight_rows") == server.metric("graftwork_in_flight_requests") == {(): 0}


def batches(server: ServerProcess) -> tuple[float, float]:
    """Rows computed, and batches."""
    return (
        sum(server.metric("graftwork_batch_size_rows_sum").values()),
        sum(server.metric("graftwork_batch_size_rows_count").values()),
    )


def test_a_bad_image_among_good_ones_fails_alone(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    images = [picture(2000 + number) for number in range(32)]
    images[13] = images[13][:-20]
    with ThreadPoolExecutor(32) as threads:
        replies = list(threads.map(lambda image: send_image(server, image), images))
    check_refusal(replies.pop(13), 422, "image_truncated")
    images.pop(13)
    wanted = predictors["colours"].predict(images).tolist()
    for reply, expected in zip(replies, wanted, strict=True):
        assert scores(reply, predictors["colours"].labels)[0] == pytest.approx(expected, abs=TOLERANCE)


def test_every_request_is_counted_and_logged_once(server: ServerProcess) -> None:
    """Conservation: requests sent == ok + client_error + shed + timeout + failed."""
    before = Counter(server.metric("graftwork_requests_total"))
    sent: Counter[tuple[str, str, str]] = Counter()
    ids = []
    for number in range(40):
        model, instances, outcome, version = [
            ("letters", ["a"], "ok", "1"),
            ("letters", [""], "client_error", "1"),
            ("moods", 3, "client_error", "1"),
            (f"made-up-{number}", ["a"], "client_error", "_unknown"),
        ][number % 4]
        ids.append(f"conserved-{number}")
        server.predict(model, instances, **{"x-request-id": ids[-1]})
        sent[model if version == "1" else "_unknown", outcome, version] += 1
    after = Counter(server.metric("graftwork_requests_total"))
    after.subtract(before)
    assert +after == sent

    def logged() -> Counter[str]:
        return Counter(record["request_id"] for record in server.records() if "request_id" in record)

    wait_for(lambda: ids[-1] in logged(), 5)  # lines are written a moment later
    assert {request: logged()[request] for request in ids} == dict.fromkeys(ids, 1)


def test_h16_a_request_id_cannot_forge_a_record(server: ServerProcess) -> None:
    evil = 'x","status":999,"forged":"yes'
    reply = server.request("GET", "/health/live?a=%0a%22", headers={"x-request-id": evil})
    assert reply.headers["x-request-id"] != evil
    server.request("GET", '/v1/models/%0A{"forged":1}')
    assert not any("forged" in record or record.get("status") == 999 for record in server.records())


def test_the_engine_that_is_chosen_answers_as_torch_does_and_logs_json(
    server: ServerProcess, models_on_disk: Path, tmp_path: Path
) -> None:
    cache = str(tmp_path / "cache")
    with ready_server(models_on_disk, "--engine", "openvino", "--cache-dir", cache) as chosen:
        for name, instances in [("letters", ["it is a", "it is 7, and more of it"]), ("moods", ["glad"])]:
            wanted = server.predict(name, instances).json()["predictions"]
            found = chosen.predict(name, instances).json()["predictions"]
            assert [each["label"] for each in found] == [each["label"] for each in wanted]
            for one, other in zip(found, wanted, strict=True):
                assert one["scores"] == pytest.approx(other["scores"], abs=1e-3)
        said = [record["message"] for record in chosen.records()]  # each line is an object
        assert any("runs on openvino" in message for message in said)
