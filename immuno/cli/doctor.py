"""`immuno doctor`: checks of this installation; each says what it found and, where something is wrong, the mend."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import click

from immuno.cli.options import database_option, json_option, print_json
from immuno.obstacles import HOME, ROOMS, obstacles
from immuno_core.config.secrecy import shown_address, without_secrets
from immuno_core.errors import ImmunoError
from immuno_core.versions import installed


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `fail` keeps immuno from working; `warn` limits it; `ok` is neither."""

    name: str
    state: Literal["ok", "warn", "fail"]
    text: str


def examine(database: str | None) -> Iterator[Finding]:
    """Run every check; a check that itself breaks is a finding, never an exception."""
    checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("python", _python),
        *((f"room {room}", _room_check(room)) for room in ROOMS),
        ("packages", _packages),
        ("torch", _torch),
        ("ray", _ray),
        ("mini-world model", _checkpoint),
        ("cache folder", _cache),
        ("database", lambda: _database(database)),
        ("LLM keys", _keys),
    )
    for name, check in checks:
        try:
            yield check()
        except Exception as error:  # noqa: BLE001 - whatever breaks is what the user wants to hear about
            yield Finding(name, "fail", without_secrets(f"{type(error).__name__}: {error}"))


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("python", "ok", f"{version} ({sys.executable})")


def _room_check(room: str) -> Callable[[], Finding]:
    def check() -> Finding:
        obstacle = next(obstacles(room), None)
        return Finding(f"room {room}", "fail" if obstacle else "ok", obstacle or str(HOME / room))

    return check


def _packages() -> Finding:
    wanted = (
        "ray",
        "torch",
        "torchvision",
        "open_clip_torch",
        "langchain",
        "langgraph",
        "sqlalchemy",
        "alembic",
        "pydantic",
    )
    found = installed(wanted)
    if missing := [package for package, version in found.items() if version == "missing"]:
        return Finding(
            "packages", "fail", f"missing: {', '.join(missing)}; install with: make test, or pip install -e ."
        )
    return Finding("packages", "ok", ", ".join(f"{package} {version}" for package, version in found.items()))


def _torch() -> Finding:
    import torch

    gpus = torch.cuda.device_count()
    if gpus:
        return Finding("torch", "ok", f"{torch.__version__}, {gpus} GPU(s): {torch.cuda.get_device_name(0)}")
    return Finding("torch", "ok", f"{torch.__version__}, no GPU: embedding runs on {os.cpu_count()} CPU core(s)")


def _ray() -> Finding:
    import ray

    from cluster.jobs import check_token

    try:
        check_token()
    except ImmunoError as error:
        return Finding("ray", "fail", str(error))
    address = os.environ.get("RAY_ADDRESS")
    where = f"RAY_ADDRESS={shown_address(address)}" if address else "a private local cluster is started when needed"
    if address and address.startswith(("http://", "https://")):
        return Finding(
            "ray", "warn", f"{where} is a dashboard: immuno submit goes there, every other command needs --ray"
        )
    return Finding("ray", "ok", f"{ray.__version__}; {where}")


def _checkpoint() -> Finding:
    from evaluation.miniworld.model import CHECKPOINT, verify_checkpoint

    verify_checkpoint()
    return Finding("mini-world model", "ok", f"{CHECKPOINT}: digests agree with its provenance file")


def _cache() -> Finding:
    from immuno_core.paths import cache_root

    folder = cache_root()
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(nearest, os.W_OK):
        return Finding("cache folder", "fail", f"{nearest} is not writable; set IMMUNO_CACHE to a folder that is")
    return Finding("cache folder", "ok", str(folder))


def _database(url: str | None) -> Finding:
    from db import open_store
    from immuno_core.paths import default_database

    default = default_database()
    if url is None and not default.exists():
        return Finding("database", "ok", f"none yet; the first run makes {default}")
    try:
        with open_store(url, default=default) as store:
            return Finding("database", "ok", f"{store.url}: {len(store.sessions())} session(s)")
    except ImmunoError as error:
        return Finding("database", "fail", str(error))


def _keys() -> Finding:
    keys = [name for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY") if os.environ.get(name)]
    if keys:
        return Finding("LLM keys", "ok", f"set: {', '.join(keys)}")
    return Finding("LLM keys", "warn", "none set; the lexicon and servers with a base_url (vLLM, Ollama) need none")


_SIGNS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@click.command(name="doctor")
@database_option
@json_option
def command(database: str | None, as_json: bool) -> int:
    """Check this installation and say what to mend. Exit status 2 where something is wrong."""
    findings = []
    for finding in examine(database):
        findings.append(finding)
        if not as_json:
            click.echo(f"{_SIGNS[finding.state]}  {finding.name:<18} {finding.text}")
    if as_json:
        print_json([asdict(finding) for finding in findings])
    return 2 if any(finding.state == "fail" for finding in findings) else 0
