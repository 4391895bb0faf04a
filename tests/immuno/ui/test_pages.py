"""What the explorer's pages hold, and what they never do."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from db import AntibodyStore, open_store
from immuno.serving.access import LOOPBACK_NAMES
from immuno.ui.app import make_app
from immuno.ui.images import Pictures

from .conftest import HOSTILE, Record, addresses


def test_every_page_shows_hostile_texts_as_text(client: TestClient, record: Record) -> None:
    said = ""
    for name, address in addresses(record).items():
        answer = client.get(address)
        assert answer.status_code == (404 if name == "error" else 200), (name, answer.text)
        assert not re.search(r"<script>|\x1b|\u202e|49 =1|\son\w+=", answer.text), name
        assert "&lt;script&gt;" in answer.text or name in ("search", "error", "runs"), name
        said += answer.text
    assert "\\x1b[31mred" in said
    assert "\\u202etxt.exe" in said
    assert "{{ 7*7 }}" in said


def test_every_answer_keeps_the_browser_to_this_site(client: TestClient, record: Record) -> None:
    for address in (*addresses(record).values(), "/static/page.css", "/static/page.js", "/static/app.py"):
        policy = client.get(address).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    html = "".join(client.get(address).text for address in addresses(record).values())
    assert set(re.findall(r'(?:src|href|action)="(?!data:,)([^"]?)', html)) <= {"/", "#"}
    assert not re.search(r"style=|https?://", html)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_only_reads(method: str, client: TestClient, record: Record) -> None:
    assert client.request(method, "/").status_code == 405
    assert client.request(method, f"/session/{record.session.id}").status_code == 405


def test_who_may_ask(store: AntibodyStore) -> None:
    own = TestClient(make_app(store, hosts=LOOPBACK_NAMES))
    assert own.get("/", headers={"host": "localhost:80"}).status_code == 200
    assert own.get("/", headers={"host": "evil.example"}).status_code == 400
    assert own.get("/", headers={"host": "localhost", "origin": "http://evil.example"}).status_code == 403
    elsewhere = {"host": "localhost", "sec-fetch-site": "cross-site", "sec-fetch-dest": "image"}
    assert own.get("/sql?q=SELECT+1", headers=elsewhere).status_code == 403
    assert own.get("/", headers=elsewhere | {"sec-fetch-dest": "document"}).status_code == 200
    guarded = TestClient(make_app(store, token="secret", hosts=LOOPBACK_NAMES))
    refused = guarded.get("/", auth=("anybody", "wrong"))
    assert (refused.status_code, refused.headers["www-authenticate"][:5]) == (401, "Basic")
    assert "default-src 'none'" in refused.headers["content-security-policy"]
    assert guarded.get("/").status_code == 401
    assert guarded.get("/", headers={"authorization": "Basic x"}).status_code == 401
    assert guarded.get("/", auth=("anybody", "secret"), headers={"host": "far.example"}).status_code == 200
    assert guarded.get("/", headers={"authorization": "Bearer secret"}).status_code == 200


def test_a_session_shows_its_way(client: TestClient, record: Record) -> None:
    html = client.get(f"/session/{record.session.id}").text
    assert "50.0 → 40.0 %" in html
    assert "Mean FPR95 by generation, per cent: 50.0, 40.0, 30.0" in html
    assert html.count("<ins>") >= 2
    assert "fox/001.png" in html
    assert "cat/000.png" not in html


def test_an_antibodys_life(client: TestClient, record: Record) -> None:
    html = client.get(f"/antibody/{record.antibody.id}").text
    assert "1 outlier repelled" in html
    assert "1 known image that it cost" in html
    assert "fox%2F000.png" in html
    assert "50.0 / 25.0" in html
    assert "In the bank of generation" in html
    assert client.get(f"/antibody/{record.session.id}").status_code == 404
    assert client.get("/antibody/%ED%A0%80").status_code == 404


def test_an_images_life(client: TestClient) -> None:
    html = client.get("/image?set=near&sample=fox/001.png").text
    assert "Accepted by 3 of 3 generations" in html
    assert "By generation: accepted, accepted, accepted" in html
    assert client.get("/image?sample=nothing.png").status_code == 400
    assert client.get("/image").status_code == 400


def test_a_runs_results(client: TestClient, record: Record) -> None:
    html = client.get(f"/run/{record.run}").text
    assert html.count('<td class="n">50.0') == 2
    assert client.get("/run/nobody").status_code == 404


def test_antibodies_are_filtered(client: TestClient, record: Record) -> None:
    def found(**query: str) -> list[str]:
        html = client.get("/antibodies", params=query).text
        return re.findall(r'<td class="text"><a href="/antibody/([\w-]+)"', html)

    assert len(found()) == 3
    assert found(kind="visual") == [record.visual.id]
    assert found(status="rejected", sort="harm") != found(status="accepted", sort="harm")
    assert found(text="ALERT(1)") == [record.antibody.id]
    assert found(session=record.session.id, sort="gain")[0] == record.antibody.id
    assert found(**{"class": "nobody"}) == []
    for bad in ({"kind": "x"}, {"sort": "x"}, {"after": "x"}, {"after": "0." + "z" * 40}):
        answer = client.get("/antibodies", params=bad)
        assert (answer.status_code, "cannot be shown" in answer.text) == (400, True)
    assert client.get("/antibodies?session=nobody").status_code == 404
    assert client.get(f"/images?session={record.session.id}&from=-1").status_code == 400


def test_exports_are_safe(client: TestClient, record: Record) -> None:
    rows = list(csv.DictReader(io.StringIO(client.get("/antibodies?as=csv&text=alert").text)))
    assert [row["id"] for row in rows] == [record.antibody.id]
    assert "\x1b" not in rows[0]["text"]
    formula = client.get("/sql", params={"q": "SELECT '=1+1' AS a", "as": "csv"})
    assert formula.text == "a\n'=1+1\n"
    assert formula.headers["content-disposition"] == 'attachment; filename="answer.csv"'
    whole = json.loads(client.get("/antibodies?as=json&text=alert").text)
    assert whole[0]["text"] == HOSTILE
    for address in ("/?as=json", "/runs?as=json", "/reads?as=json", f"/run/{record.run}?as=json"):
        assert json.loads(client.get(address).text), address
    (line,) = client.get(f"/session/{record.session.id}/bank.jsonl").text.splitlines()
    assert json.loads(line)["text"] == HOSTILE


def test_sql_only_reads(client: TestClient) -> None:
    assert "only reading is allowed" in client.get("/sql", params={"q": "DELETE FROM sessions"}).text
    assert "no query" in client.get("/sql", params={"q": "--"}).text
    assert "NULL" in client.get("/sql", params={"q": "SELECT NULL AS nothing"}).text


def test_pictures_come_from_the_open_sets_alone(record: Record, store: AntibodyStore) -> None:
    pictures = Pictures(store)

    def said(set_name: str, sample: str) -> str:
        found = pictures.get(record.session.id, set_name, sample)
        words = re.search(r">([^<>]+)</text>", found.content.decode()) if "svg" in found.media_type else None
        return words[1] if words else found.media_type

    assert said("near", "fox/000.png") == "image/png"
    assert said("id", "cat/000.png") == "image/png"
    for set_name, sample in (
        ("far", "owl/000.png"),
        ("near", "../sealed/owl/000.png"),
        ("near", str(record.images / "sealed" / "owl" / "000.png")),
        ("id", "/etc/passwd"),
        ("..", "sealed/owl/000.png"),
        ("", ""),
    ):
        assert said(set_name, sample) == "file has gone"
    gone = record.images / "near" / "fox" / "002.png"
    content = gone.read_bytes()
    gone.unlink()
    assert said("near", "fox/002.png") == "file has gone"
    gone.write_bytes(b"no picture")
    assert said("near", "fox/002.png") == "cannot be read"
    gone.write_bytes(content)
    assert said("near", "fox/002.png") == "image/png"


def test_a_folder_that_has_gone(record: Record, client: TestClient) -> None:
    folder = record.images / "near"
    folder.rename(record.images / "moved")
    try:
        address = f"/picture?session={record.session.id}&set=near&sample=fox/000.png"
        assert "folder has gone" in client.get(address).text
        assert client.get(addresses(record)["images"]).status_code == 200
    finally:
        (record.images / "moved").rename(folder)
    assert client.get("/picture?session=nobody&set=near&sample=x").status_code == 404


def test_search_by_meaning(client: TestClient, record: Record) -> None:
    address = f"/search?q=a+fox&session={record.session.id}"
    html = client.get(address).text
    for _ in range(100):
        if "is being loaded" not in html:
            break
        assert 'data-live="1"' in html
        html = client.get(address).text
    first = html[html.index("<tbody>") :]
    assert first.index("1.000") < first.index(record.antibody.id) < first.index(record.visual.id)


def test_a_session_whose_encoder_has_gone(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(record.path.read_bytes())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE sessions SET config = json_set(config, '$.encoder.model', 'local-dir:/nowhere')")
    connection.close()
    with open_store(str(path), read_only=True) as store, TestClient(make_app(store)) as client:
        html = ""
        for _ in range(100):
            html = client.get(f"/search?q=a+fox&session={record.session.id}").text
            if "is being loaded" not in html:
                break
        assert "/nowhere" in html
        assert 'role="alert"' in html


def test_an_empty_record(new_database: Path) -> None:
    with open_store(str(new_database), read_only=True) as store, TestClient(make_app(store)) as client:
        for address in ("/", "/antibodies", "/images", "/compare", "/diff", "/search", "/runs", "/reads", "/sql"):
            assert client.get(address).status_code == 200, address
        assert "no sessions yet" in client.get("/").text
        assert client.get("/?as=csv").status_code == 200


def test_while_another_process_writes(record: Record, client: TestClient) -> None:
    writer = sqlite3.connect(record.path, isolation_level=None)
    try:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE sessions SET status = 'paused'")
        for address in addresses(record).values():
            assert client.get(address).status_code in (200, 404)
        assert "running" in client.get("/").text
        writer.execute("ROLLBACK")
    finally:
        writer.close()


def test_a_record_that_breaks_down(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "broken.db"
    path.write_bytes(record.path.read_bytes())
    with open_store(str(path), read_only=True) as store, TestClient(make_app(store)) as client:
        assert client.get("/").status_code == 200
        path.write_bytes(b"no database, whatever it was" * 1000)
        store.close()
        answer = client.get("/")
        assert answer.status_code in (400, 500)
        assert "cannot be shown" in answer.text


def test_a_generation_is_named_in_the_address(client: TestClient, record: Record) -> None:
    name = record.session.name
    html = client.get(f"/diff?before={quote(name + ':0')}&after={quote(name + ':1')}").text
    assert "0 added, 0 removed, 2 kept" in html
    assert client.get("/diff?before=x&after=y").status_code == 400
