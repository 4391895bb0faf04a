"""The service, really listening: what it says of images is what `judge` says, and what it refuses it says in a line."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from PIL import Image

from evaluation.shield.verdicts import ShieldVerdict
from immuno.serving.listening import listen
from immuno.shield.calibrating import recalibrate
from immuno.shield.log import RejectedLog
from immuno.shield.service.app import Service
from immuno.shield.service.gathering import Gatherer
from immuno.shield.service.intake import Limits
from immuno.shield.service.server import Server
from immuno.shield.shield import Shield
from immuno_core.errors import ImmunoError, SetupError
from tests.immuno.shield.conftest import Made
from tests.immuno.shield.serving import TOKEN, Running, pictures, running, wait_for

LIMITS = Limits(bytes=2**20, pixels=1_000_000, images=20, seconds=30, queue=1000, batch=16)


@pytest.fixture(scope="module")
def service(made: Made) -> Iterator[Running]:
    """One for all that only ask it."""
    with running(lambda: Shield.load(made.shield), LIMITS) as found:
        yield found


@pytest.fixture(scope="module")
def good(made: Made) -> bytes:
    return pictures(made.images / "sealed")[0]


def base64_of(image: bytes) -> str:
    return base64.b64encode(image).decode()


def said(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["verdicts"]
    return found


def line(answer: httpx.Response) -> str:
    """The one line of an error."""
    (found,) = answer.json().values()
    assert "\n" not in found
    return str(found)


def alike(found: list[dict[str, Any]], expected: list[ShieldVerdict]) -> bool:
    """Whether verdicts are the same but for rounding: how a batch is cut changes the last digits."""
    return [{**one, "score": pytest.approx(one["score"], abs=1e-5)}["outcome"] for one in found] == [
        one.outcome for one in expected
    ] and [one["score"] for one in found] == pytest.approx([one.score for one in expected], abs=1e-5)


def test_files_and_base64_get_the_verdicts_of_judge(made: Made, service: Running) -> None:
    images = pictures(made.images / "sealed")
    expected = Shield.load(made.shield).judge(images)
    names = [f"{i}.png" for i in range(len(images))]
    form = service.judge(*zip(names, images, strict=True))
    assert alike(said(form), expected)
    assert [one["image"] for one in said(form)] == names
    assert form.json()["shield"] == Shield.load(made.shield).manifest.digest
    body = {"images": [{"data": base64_of(image)} for image in images]}
    as_json = service.client.post("/judge", json=body)
    assert alike(said(as_json), expected)
    assert [one["image"] for one in said(as_json)] == [f"image {i + 1}" for i in range(len(images))]
    document = service.client.get("/openapi.json").json()
    schema = {"$ref": "#/components/schemas/Verdicts", "components": document["components"]}
    jsonschema.validate(form.json(), schema)
    jsonschema.validate(body, {"$ref": "#/components/schemas/SentJson", "components": document["components"]})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**form.json(), "verdicts": [{}]}, schema)


def test_in_a_batch_only_the_bad_image_fails(service: Running, good: bytes) -> None:
    large = io.BytesIO()
    Image.new("1", (12_000, 9_000)).save(large, "PNG")
    thin = io.BytesIO()
    Image.new("1", (100_000, 9)).save(thin, "PNG")
    animated = io.BytesIO()
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:])
    still = io.BytesIO()
    frames[0].save(still, "GIF")
    sent = {
        "none.png": b"not an image",
        "torn.png": good[: len(good) // 2],
        "empty.png": b"",
        "large.png": large.getvalue(),
        "thin.png": thin.getvalue(),
    }
    found = said(service.judge(good, *sent.items(), animated.getvalue(), still.getvalue(), good))
    assert [one["outcome"] == "failed" for one in found] == [False, *[True] * len(sent), False, False, False]
    reasons = {one["image"]: one["reason"] for one in found[1:6]}
    assert reasons["none.png"] == "not an image"
    assert reasons["empty.png"] == "the file is empty"
    assert "108000000 pixels) exceeds limit of 1000000" in reasons["large.png"]
    assert "100,000 x 9 pixels: too long" in reasons["thin.png"]
    assert found[6]["score"] == pytest.approx(found[7]["score"], abs=1e-5)  # the first frame
    assert found[0]["score"] == pytest.approx(found[-1]["score"], abs=1e-5)
    found = said(service.client.post("/judge", json={"images": [{"data": "?"}, {"data": base64_of(good)}]}))
    assert found[0]["reason"] == "its data is not base64"
    assert found[1]["score"] is not None


@pytest.mark.parametrize("name", ["a\nb.png", "<img src=x onerror=alert(1)>.png", "\u202egnp.exe", "a" * 3000])
def test_a_name_is_only_a_name(service: Running, good: bytes, name: str) -> None:
    answer = service.client.post("/judge", json={"images": [{"name": name, "data": base64_of(good)}]})
    assert said(answer)[0]["image"] == name
    assert answer.content.isascii()
    assert said(service.judge((name, good)))[0]["score"] is not None


FORM = {"content-type": "multipart/form-data; boundary=x"}
JSON = {"content-type": "application/json"}
TORN = b'--x\r\ncontent-disposition: form-data; name="a"; filename="a"\r\n\r\nGI'


@pytest.mark.parametrize(
    ("sent", "status", "why"),
    [
        ({"json": {"images": []}}, 400, "no image"),
        ({"content": b"--x--\r\n", "headers": FORM}, 400, "no image"),
        ({"content": TORN, "headers": FORM}, 400, "bound"),
        ({"content": b"nothing of the kind", "headers": FORM}, 400, "multipart"),
        ({"content": b"--x--", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
        ({"data": {"a": "b"}, "files": {"c": b""}}, 400, "the field 'a' is a text"),
        ({"content": b"{", "headers": JSON}, 400, "JSON"),
        ({"content": b"[" * 100_000, "headers": JSON}, 400, ""),
        ({"json": {"images": [{"data": 7}]}}, 400, "images.0.data"),
        ({"json": {"images": [], "more": 1}}, 400, "more"),
        ({"json": {"images": [{"data": ""}] * 21}}, 413, "21 images"),
        ({"files": [("image", b"x")] * 21}, 413, "Too many files"),
        ({"content": b"x" * (2**20 + 1), "headers": JSON}, 413, "1,048,576 bytes"),
        ({"content": iter([b"x" * 2**20, b"x"]), "headers": JSON}, 413, "1,048,576 bytes"),
        ({"content": b"x" * 100_000_000, "headers": FORM}, 413, "1,048,576 bytes"),
        ({"content": b"x", "headers": {"content-type": "image/png"}}, 415, "multipart/form-data"),
        ({"content": b""}, 415, "multipart/form-data"),
        ({"json": {}, "headers": {"host": "evil.example"}}, 400, "no name of this server"),
        ({"json": {}, "headers": {"host": "127.0.0.1:1]"}}, 400, "no name of this server"),
        ({"json": {}, "headers": {"origin": "http://evil.example"}}, 403, "a page from elsewhere"),
        ({"json": {}, "headers": {"origin": "null"}}, 403, "a page from elsewhere"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(service: Running, sent: dict[str, Any], status: int, why: str) -> None:
    answer = service.client.post("/judge", **sent)
    assert answer.status_code == status
    assert why in line(answer)
    assert service.alive()


def test_who_asks_for_something_else_is_told(service: Running) -> None:
    assert service.client.get("/judge").status_code == 405
    assert line(service.client.get("/nowhere")) == "Not Found"
    assert service.client.get("/static/..%2f__init__.py").status_code == 404
    assert "SIGHUP" in line(service.client.post("/reload"))
    assert service.client.get("/health", headers={"host": f"localhost:{service.port}"}).status_code == 200
    assert service.client.get("/health", headers={"host": "[::1]:80"}).status_code == 200


def test_what_is_no_http_is_refused(service: Running) -> None:
    for raw in (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"x" * 100_000):
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
            connection.sendall(raw)
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert service.alive()


def test_the_numbers_are_those_of_what_was_done(made: Made, tmp_path: Path) -> None:
    log = RejectedLog(tmp_path / "log")
    with running(lambda: Shield.load(made.shield), log=log) as service:
        images = pictures(made.images / "sealed")
        found = said(service.judge(*images, b"x"))
        for outcome in ("accepted", "rejected", "review", "failed"):
            number = sum(one["outcome"] == outcome for one in found)
            assert service.number(f'immuno_images_total{{outcome="{outcome}"}}') == number
        assert service.number("immuno_batch_images_sum") == 17
        assert service.number("immuno_request_seconds_count") == 1
        assert service.number("immuno_queue_images") == 0
        assert service.number("immuno_ready") == 1
        assert service.number('immuno_requests_total{path="/judge",status="200"}') == 1
        service.client.get("/a/b/c")
        assert service.number('immuno_requests_total{path="other",status="404"}') == 1
        rejected = [image for image, one in zip(images, found, strict=False) if one["outcome"] == "rejected"]
        assert service.number("immuno_logged_images") == len(rejected) > 0
        assert {path.read_bytes() for path in (tmp_path / "log" / "images").iterdir()} == set(rejected)
        assert service.number("immuno_window_images") == 16
        assert service.number("immuno_drift") == 0
        shutil.rmtree(tmp_path / "log")
        (tmp_path / "log").touch()
        judged = [service.judge(*rejected, altered(rejected[0], i)) for i in range(40)]
        assert {one.status_code for one in judged} == {200}  # whatever becomes of the log
        assert [line for line in service.said if "was not logged" in line]
        assert service.number("immuno_drift") == 1
        assert service.number("immuno_window_psi") > 0.25
        assert [line for line in service.said if line.startswith("drift: of the last")]


def altered(image: bytes, number: int) -> bytes:
    """The same picture in another file."""
    return image + bytes([number])


def test_with_a_token_nobody_else_asks(made: Made, good: bytes) -> None:
    with running(lambda: Shield.load(made.shield), token=TOKEN) as service:
        assert said(service.judge(good))
        for wrong in ("", "Bearer wrong", f"Basic {TOKEN}", "Bearer"):
            with httpx.Client(base_url=service.url, headers={"authorization": wrong}, trust_env=False) as other:
                answer = other.post("/judge", files={"image": b"x" * 10**6})
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert "token" in line(answer)
                assert other.get("/metrics").status_code == other.post("/reload").status_code == 401
                assert other.get("/ready").status_code == 200
        assert said(service.client.post("/judge", files={"image": good}, headers={"host": "any.example"}))


def test_a_byte_a_second_is_dropped(made: Made, good: bytes) -> None:
    head = "POST /judge HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n"
    with running(lambda: Shield.load(made.shield), Limits(seconds=0.4)) as service:
        for sent in (head + '{"i', head[:20]):
            with socket.create_connection(("127.0.0.1", service.port), timeout=30) as slow:
                slow.sendall(sent.encode())
                got = b"".join(iter(lambda: slow.recv(4096), b""))
                assert got.startswith(b"HTTP/1.1 408")
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as silent:
            assert silent.recv(10) == b""
        wait_for(lambda: service.judge(good).status_code == 200)
        wait_for(lambda: service.service._held == 0)


@pytest.mark.long
def test_a_thousand_at_once_are_answered_or_told_when_to_come_again(made: Made, good: bytes) -> None:
    with running(lambda: Shield.load(made.shield), Limits(queue=200)) as service:
        statuses = asyncio.run(at_once(service, good, 1000))
        assert set(statuses) <= {200, 503}
        assert statuses[200] == service.number('immuno_images_total{outcome="accepted"}') + service.number(
            'immuno_images_total{outcome="rejected"}'
        ) + service.number('immuno_images_total{outcome="review"}')
        assert statuses[200] >= 200
        assert said(service.judge(good))


async def at_once(service: Running, image: bytes, number: int) -> Counter[int]:
    """Send requests, all before the first answer is read; statuses by how often they came."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=service.url, limits=limits, timeout=120, trust_env=False) as client:
        answers = await asyncio.gather(*(client.post("/judge", files={"i": image}) for _ in range(number)))
    for answer in answers:
        assert (answer.status_code == 503) == ("retry-after" in answer.headers)
    return Counter(answer.status_code for answer in answers)


class Slow:
    """A shield that judges when it is let."""

    def __init__(self, shield: Shield) -> None:
        self.shield, self.let, self.batches = shield, threading.Semaphore(0), list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.shield, name)

    def judged(self, images: Any, names: Any) -> Any:
        self.batches.append(len(images))
        assert self.let.acquire(timeout=60)
        return self.shield.judged(images, names)


def test_what_waits_is_gathered_and_what_is_too_much_is_told_so(made: Made, good: bytes) -> None:
    slow = Slow(Shield.load(made.shield))
    with running(lambda: slow, Limits(queue=6, batch=4)) as service, ThreadPoolExecutor(8) as pool:  # type: ignore[arg-type, return-value]
        asked = [pool.submit(service.judge, good)]
        wait_for(lambda: slow.batches == [1])
        asked += [pool.submit(service.judge, *[good] * 3) for _ in range(2)]
        wait_for(lambda: service.number("immuno_queue_images") == 6)
        full = service.judge(good)
        assert (full.status_code, full.headers["retry-after"]) == (503, "2")  # of 6 images in batches of 4
        assert "too many images wait" in line(full)
        for _ in range(3):
            slow.let.release()
        assert [len(said(one.result())) for one in asked] == [1, 3, 3]
        assert slow.batches == [1, 3, 3]  # a request's images stay together, and 6 are more than 4


def test_what_nobody_waits_for_is_not_judged() -> None:
    let, batches = threading.Semaphore(0), list[Sequence[str]]()

    def judge(_: Sequence[bytes], names: Sequence[str]) -> Sequence[str]:
        batches.append(names)
        assert let.acquire(timeout=60)
        return names

    async def ask() -> None:
        gatherer = Gatherer(judge, most=1, room=10, done=lambda *_: None)
        first, gone, last = (asyncio.create_task(gatherer.judged([b""], [name])) for name in "abc")
        while not (batches and gatherer.waiting == 2):
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        let.release(2)
        assert [await first, await last] == [["a"], ["c"]]
        gatherer.close()

    asyncio.run(ask())
    assert batches == [["a"], ["c"]]


def test_who_waits_too_long_is_told_to_come_again(made: Made, good: bytes) -> None:
    slow = Slow(Shield.load(made.shield))
    with running(lambda: slow, Limits(seconds=1)) as service:  # type: ignore[arg-type, return-value]
        late = service.judge(good)
        assert (late.status_code, late.headers["retry-after"]) == (503, "1")
        assert line(late) == "not judged within 1 s"
        slow.let.release(1000)


def test_a_batch_that_fails_is_told_and_the_next_is_judged(
    made: Made, good: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Slow):
        def judged(self, images: Any, names: Any) -> Any:
            self.batches.append(len(images))
            if len(self.batches) == 1:
                raise ImmunoError("the model fails on every image")
            if len(self.batches) == 2:
                raise ZeroDivisionError
            return self.shield.judged(images, names)

    with running(lambda: Failing(Shield.load(made.shield))) as service:  # type: ignore[arg-type, return-value]
        for why in ("the model fails on every image", "the service failed over this request"):
            answer = service.judge(good)
            assert (answer.status_code, line(answer)) == (500, why)
        assert said(service.judge(good))


def test_a_reload_in_the_middle_drops_nothing(made: Made, shield_dir: Path) -> None:
    images = pictures(made.images / "test")
    before = Shield.load(shield_dir).manifest.digest
    with running(lambda: Shield.load(shield_dir), token=TOKEN) as service, ThreadPoolExecutor(4) as pool:
        encoder = service.service.shield.encoder  # type: ignore[union-attr]
        stop = threading.Event()

        def ask() -> list[httpx.Response]:
            return [service.judge(*images[:5]) for _ in iter(stop.is_set, True)]

        asking = [pool.submit(ask) for _ in range(3)]
        wait_for(lambda: service.number("immuno_batch_images_count") > 2)
        shield = Shield.load(shield_dir)
        recalibrate(shield, shield.embed(images), accept=0.5, today="today").shield.save()
        after = Shield.load(shield_dir).manifest.digest
        assert service.client.post("/reload").json() == {"shield": after}
        done = service.number("immuno_batch_images_count")
        wait_for(lambda: service.number("immuno_batch_images_count") > done + 2)
        stop.set()
        answers = [answer for one in asking for answer in one.result()]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["shield"] for answer in answers} == {before, after}
        assert service.service.shield.encoder is encoder  # type: ignore[union-attr]
        file = next(shield_dir.glob("head-*.safetensors"))
        whole = file.read_bytes()
        manifest = json.loads((shield_dir / "shield.json").read_text())
        for spoil, why in (
            (lambda: file.write_bytes(whole[:-1] + b"?"), "was changed since"),
            (
                lambda: (shield_dir / "shield.json").write_text(json.dumps({**manifest, "schema_version": 99})),
                "version 99",
            ),
            (lambda: (shield_dir / "shield.json").unlink(), "no shield at"),
        ):
            spoil()
            refused = service.client.post("/reload")
            assert (refused.status_code, why in line(refused)) == (409, True)
            assert service.judge(images[0]).json()["shield"] == after
            assert why in service.said[-1]
        assert service.number('immuno_reloads_total{result="refused"}') == 3


def test_another_encoder_is_refused_at_a_reload_and_at_the_start(made: Made, good: bytes) -> None:
    def of_another() -> Shield:
        shield = Shield.load(made.shield)
        encoder = shield.manifest.encoder.model_copy(update={"weights_digest": "0" * 64})
        manifest = shield.manifest.model_copy(update={"encoder": encoder})
        return shield.with_artefact(replace(shield.artefact, manifest=manifest))

    loads = [lambda: Shield.load(made.shield), of_another]
    with running(lambda: loads.pop(0)(), token=TOKEN) as service:
        answer = service.client.post("/reload")
        assert (answer.status_code, "not the encoder" in line(answer)) == (409, True)
        assert said(service.judge(good))
    for load, error in ((of_another, SetupError), (lambda: 1 / 0, ZeroDivisionError)):
        server = Server(Service(load), listen("127.0.0.1", 0, token=""))  # type: ignore[arg-type]
        with pytest.raises(error):
            asyncio.run(server.run())


def test_what_is_in_flight_when_it_stops_is_answered(made: Made, good: bytes) -> None:
    slow = Slow(Shield.load(made.shield))
    with ThreadPoolExecutor(2) as pool:
        with running(lambda: slow) as service:  # type: ignore[arg-type, return-value]
            asked = [pool.submit(httpx.post, f"{service.url}/judge", files={"i": good}) for _ in range(2)]
            wait_for(lambda: sum(slow.batches) + service.service._gatherer.waiting == 2)
            service.stop()

            def refused() -> bool:
                with socket.socket() as new:
                    return new.connect_ex(("127.0.0.1", service.port)) != 0

            wait_for(refused)
            slow.let.release(2)
        assert [one.result().status_code for one in asked] == [200, 200]


@pytest.mark.long
def test_the_command_ends_as_it_says(made: Made, good: bytes, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    command = [sys.executable, "-m", "immuno", "guard", "serve", str(made.shield), "--port", "0"]
    command += ["--token-file", str(tmp_path / "token")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = process.stderr
        port = int(lines.readline().rpartition(":")[2])
        assert lines.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        assert lines.readline().startswith("reloaded: ")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {TOKEN}"}) as client:
            assert client.post("/judge", files={"i": good}).status_code == 200

            def halting() -> Iterator[bytes]:
                yield b'{"images": [{"data": "'
                process.send_signal(signal.SIGTERM)
                yield f'{base64_of(good)}"}}]}}'.encode()

            assert said(client.post("/judge", content=halting(), headers=JSON))[0]["score"] is not None
        assert lines.readline() == "stopped; what had come was answered\n"
        assert process.wait(60) == 143
