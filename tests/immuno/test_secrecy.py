"""What of an address is shown or stored."""

from __future__ import annotations

import pytest

from immuno.cli import cli, main
from immuno_core.config.secrecy import server_address, shown_address, without_secrets
from immuno_core.errors import SetupError
from tests.configs import make_config

SECRET = "w0rd"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:pw0rd@host:5432/x", "postgresql://me:***@host:5432/x"),
        ("postgresql://me:p@ss@w0rd@host/x", "postgresql://***:***@host/x"),
        ("postgresql://me:w0rd/more@host/x", "postgresql://***:***@host/x"),
        ("postgresql://me:a?w0rd@host/x", "postgresql://***"),
        ("postgresql://host/x?password=p@w0rd", "postgresql://***"),
        ("postgresql://host/x?host=/tmp&password=w0rd", "postgresql://host/x?host=/tmp&password=***"),
        ("postgresql://me@host/x", "postgresql://me@host/x"),
        ("http://w0rd@host:8000/v1", "http://***@host:8000/v1"),
        ("http://u:w0rd@host:8000/v1", "http://***@host:8000/v1"),
        ("http://host/v1?api_key=w0rd", "http://host/v1?api_key=***"),
        ("http://host/v1?a=w0rd#w0rd", "http://host/v1?a=***#***"),
        ("http://host/v1#w0rd", "http://host/v1#***"),
        ("http://host/sk-w0rdw0rd/v1", "http://host/***/v1"),
        ("https://host/aW0rdw0rd1234567890ABCDEFw0rd/v1", "https://host/***/v1"),
        ("s3://key:w0rd/more@bucket/folder", "s3://***@bucket/folder"),
    ],
)  # fmt: skip
def test_nothing_secret_of_an_address_is_shown(address: str, shown: str) -> None:
    assert shown_address(address) == shown
    assert SECRET not in without_secrets(f"no answer at {address}, try again", {})


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.7:8000/v1",
        "http://[::1]:8000/v1",
        "https://gateway.ai.cloudflare.com/v1/0123456789abcdef0123456789abcdef/gate/openai",
        "https://host/models/meta-llama/Meta-Llama-3-1-70B-Instruct/v1",
        "s3://bucket/folder/v2",
        "ray://head:10001",
    ],
)
def test_an_address_without_a_secret_is_shown_as_it_is(address: str) -> None:
    assert shown_address(address) == address
    assert without_secrets(f"at {address}: no", {}) == f"at {address}: no"


@pytest.mark.parametrize(
    "address",
    [
        "http://u:w0rd@host/v1",
        "http://w0rd@host/v1",
        "http://host/v1?key=w0rd",
        "http://host/v1#w0rd",
        "http://host/sk-w0rd1234/v1",
    ],
)
def test_an_address_that_would_be_stored_with_a_secret_is_refused_wherever_it_stands(address: str) -> None:
    with pytest.raises(ValueError, match="keys come from the environment"):
        server_address(address)
    llm = {"llm": "openai:tiny"}
    for changes in ({"refine": llm | {"base_url": address}}, {"refine": llm, "llm_server": {"base_url": address}}):
        with pytest.raises(SetupError, match="keys come from the environment") as told:
            make_config(**changes)
        assert SECRET not in str(told.value)


def test_the_front_door_shows_no_secret_and_no_control_character(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**_: object) -> None:
        raise SetupError("no \x1b[31manswer\u202e at http://u:w0rd@host/v1, key abcdefgh-w0rd\nsecond line")

    monkeypatch.setenv("SOME_API_KEY", "abcdefgh-w0rd")
    monkeypatch.setattr(cli, "main", fails)
    with pytest.raises(SystemExit) as ended:
        main([])
    told = capsys.readouterr().err
    assert (ended.value.code, told) == (
        2,
        "error: no \\x1b[31manswer\\u202e at http://***@host/v1, key [secret]\nsecond line\n",
    )


@pytest.mark.parametrize("address", ["", "host:8000", "http://", "http://[::1/v1", "ftp://host/v1"])
def test_what_is_no_address_of_a_server_is_refused(address: str) -> None:
    with pytest.raises(SetupError, match=r"refine\.base_url"):
        make_config(refine={"llm": "openai:tiny", "base_url": address})


def test_a_store_with_a_secret_in_its_address_is_refused() -> None:
    for address in ("s3://key:w0rd/more@bucket/x", "s3://bucket/x?secret=w0rd", "s3://bucket/x#w0rd"):
        with pytest.raises(SetupError, match="give the bare URL") as told:
            make_config(cluster={"store": address})
        assert SECRET not in str(told.value)
