"""What the tests of several rooms share: a private Ray cluster, a tiny encoder, small images, a clean environment.

Nothing heavy is imported before a test asks for it.
"""

from __future__ import annotations

import os
import signal
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.tiny_models import write_images, write_tiny_model

# No test joins somebody's cluster, writes to somebody's database or cache, waits for a network that is not there, or
# prints as wide as the terminal that it was started from.
for _name in ("RAY_ADDRESS", "IMMUNO_DB", "COLUMNS", "LINES"):
    os.environ.pop(_name, None)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Ray starts a worker for each CPU of a machine before there is work, which most tests never need.
os.environ["RAY_prestart_worker_first_driver"] = "0"  # noqa: SIM112 - so Ray calls it
# Ray's workers give way to all others (niceness 15): beside other tests they would hardly ever have their turn.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112

# The tests start hundreds of processes: each would compile all sources anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell that starts this in the background has it ignore Ctrl-C, and whatever it starts too: the tests of Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache folder of the whole test session, instead of the user's."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["IMMUNO_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def nothing_twice() -> Iterator[None]:
    """What is made once for all tests of this process, and what only a power cut would need.

    SQLAlchemy compiles a statement once for each engine: a third of what a test that opens a database would take. Here
    all engines of a kind share a dialect, and so what was compiled. Each client of a server reads all certificates.
    """
    with pytest.MonkeyPatch.context() as patch:
        if "db.schema.engine" in sys.modules:
            patch.setattr("db.schema.engine.create_engine", _sharing_engines())
        patch.setattr(os, "fsync", lambda _: None)
        make, contexts = ssl.create_default_context, dict[Any, ssl.SSLContext]()

        def context(*arguments: Any, **options: Any) -> ssl.SSLContext:
            if arguments or options.keys() != {"cafile"}:
                return make(*arguments, **options)
            if options["cafile"] not in contexts:
                contexts[options["cafile"]] = make(**options)
            return contexts[options["cafile"]]

        patch.setattr(ssl, "create_default_context", context)
        yield


def _sharing_engines() -> Callable[..., Any]:
    from sqlalchemy import Connection, Engine, create_engine, event
    from sqlalchemy.util import LRUCache

    dialects: dict[str, Any] = {}
    compiled = LRUCache[Any, Any](2000)

    def create(url: Any, **options: Any) -> Engine:
        options["execution_options"] = {"compiled_cache": compiled, **options.get("execution_options", {})}
        engine = create_engine(url, **options)
        name = engine.dialect.name
        engine.dialect = dialects.get(name, engine.dialect)

        @event.listens_for(engine, "engine_connect", once=True)
        def _engine_connect(connection: Connection) -> None:  # it is set up by the first connection
            dialects.setdefault(name, connection.dialect)

        if name == "sqlite":

            @event.listens_for(engine, "checkout")
            def _checkout(connection: Any, *_: Any) -> None:
                connection.execute("PRAGMA synchronous=OFF")

        return engine

    return create


@pytest.fixture
def own_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that share nothing, as they are outside of the tests."""
    from sqlalchemy import create_engine

    monkeypatch.setattr("db.schema.engine.create_engine", create_engine)


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database made once: the tests copy it, which is faster than to make it anew."""
    from db.store import open_store

    path = tmp_path_factory.mktemp("template") / "immuno.db"
    open_store(str(path)).close()
    return path


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """The address of the one Ray cluster of the tests: private, 2 CPUs, its own folder, shut down at the end.

    This process is connected to it; a subprocess can join by the address. Ask for little of it (num_cpus = 0.25), as
    other tests may still hold actors.
    """
    from cluster.actors.runtime import connect

    with connect("local", num_cpus=2) as address:
        yield address


@pytest.fixture(scope="session")
def tiny_encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random open_clip model of 250 KB with 16 dimensions: `EncoderSpec(f"local-dir:{folder}")`."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_images() -> Callable[..., Path]:
    """`tiny_images(folder, {"cat": 3, "dog": 2}, seed=0)` writes random PNGs (folder/cat/000.png, ...)."""
    return write_images


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their figures, which are a third of the work of a small benchmark."""
    from markupsafe import Markup

    from evaluation.report import figures

    for panel in ("roc_panel", "histogram_panel", "generation_panel", "effects_panel", "plane_panel"):
        monkeypatch.setattr(figures, panel, lambda *_: Markup("<svg></svg>"))
