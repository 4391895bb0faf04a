"""deploy/ray_serve.py: the same service on a cluster."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from immuno.shield.shield import Shield
from immuno_core.errors import SetupError
from tests.immuno.shield.conftest import Made
from tests.immuno.shield.serving import TOKEN, pictures

# Ray Serve uses what pydantic has deprecated.
pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def url(ray_cluster: str) -> Iterator[str]:
    """Where the proxy of Ray Serve listens."""
    from ray import serve

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def test_it_says_what_the_service_says(made: Made, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray import serve

    from deploy.ray_serve import Given, application

    monkeypatch.delenv("IMMUNO_TOKEN", raising=False)
    with pytest.raises(SetupError, match="needs a token"):
        application(Given(folder=str(made.shield)))
    (tmp_path / "token").write_text(TOKEN)
    given = Given(folder=str(made.shield), token_file=tmp_path / "token", cpus=0.25)
    serve.run(application(given), name="shield")
    images = pictures(made.images / "sealed")[:4]
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as client:
        assert client.get("/ready").status_code == 200
        found = client.post("/judge", files=[("image", image) for image in images]).json()
        expected = Shield.load(made.shield).judge(images)
        assert [one["outcome"] for one in found["verdicts"]] == [one.outcome for one in expected]
        scores = [one["score"] for one in found["verdicts"]]
        assert scores == pytest.approx([one.score for one in expected], abs=1e-5)
        body = {"images": [{"data": base64.b64encode(images[0]).decode()}, {"data": "?"}]}
        answer = client.post("/judge", json=body).json()["verdicts"]
        assert [one["outcome"] for one in answer] == [expected[0].outcome, "failed"]
        assert b'immuno_requests_total{path="/judge",status="200"} 2.0' in client.get("/metrics").content
        assert client.post("/reload").json() == {"shield": found["shield"]}
        assert httpx.post(f"{url}/judge", files={"i": images[0]}).status_code == 401
        assert "Known, or not?" in client.get("/").text
