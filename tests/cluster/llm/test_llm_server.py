"""The chat server that a run starts for itself, with a stand-in for vLLM: start, crash, hang, restart, stop, attach."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import psutil
import pytest

from agents.chat.models import make_chat_model
from cluster.actors.runtime import node_resources
from cluster.llm import actor as llm_actor
from cluster.llm import server as llm_server
from cluster.llm.actor import LLMServerActor, LLMStatus, server_command
from cluster.llm.process import ServerProcess, log_tail, served_models
from cluster.llm.server import LLMServer, serve_llm
from evaluation.antibodies.vocabulary import load_vocabulary
from immuno.refine import chat_server
from immuno.workplace import Workplace
from immuno_core.config.llm_server import LLMServerConfig
from immuno_core.errors import SetupError
from immuno_core.retries import Backoff
from tests.cluster.actors.scripts import run_script, start_script
from tests.configs import make_config
from tests.hostile.kinds import http
from tests.hostile.server import Talk, hostile_server

STAND_IN = str(Path(__file__).with_name("stand_in_llm.py"))
NAME = "tiny"
LLM = f"openai:{NAME}"


def stand_in(folder: Path, *arguments: str, **changes: object) -> LLMServerConfig:
    keys: dict[str, object] = {
        "model": str(folder),
        "python": sys.executable,
        "command": (STAND_IN, "{model}"),
        "args": arguments,
        "gpus": 0,
        "cpus": 0.1,
        "log": folder / "server.log",
        "start_timeout": 60.0,
    }
    return LLMServerConfig.model_validate(keys | changes)


@contextlib.contextmanager
def running(config: LLMServerConfig, **options: float) -> Iterator[LLMServerActor]:
    """The actor in this process, without Ray."""
    actor = LLMServerActor(config, NAME, local=True, **options)
    try:
        yield actor
    finally:
        actor.stop()


def wait_for(actor: LLMServerActor, wanted: Callable[[LLMStatus], bool]) -> LLMStatus:
    deadline = time.monotonic() + 60
    while not wanted(status := actor.status()):
        assert time.monotonic() < deadline, status
        time.sleep(0.02)
    return status


def wait_until_up(actor: LLMServerActor, *, restarts: int = 0) -> LLMStatus:
    return wait_for(actor, lambda status: status.state == "up" and status.restarts == restarts)


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm_actor, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(llm_actor, "_LOOK_UP_SECONDS", 0.1)
    monkeypatch.setattr(llm_actor, "_BACKOFF", Backoff(first=0.01, longest=1.0))


@pytest.mark.ray
def test_a_server_is_up_within_the_block_and_gone_after_it(ray_cluster: str, tmp_path: Path) -> None:
    told: list[str] = []
    config = stand_in(tmp_path, env={"OF_THE_TEST": "yes"}, cpus=0.5)
    with LLMServer.started(config, NAME, ray_address=ray_cluster, tell=told.append) as server:
        assert served_models(server.base_url) == [NAME]
        assert server.base_url.startswith("http://127.0.0.1:")  # nobody else needs it on a cluster of one machine
        pid = server.status().pid
        assert pid is not None
        assert node_resources()[0]["CPU"] == 1.5  # what the embedding actors are planned on
        # Some other machine's name would be asked for through a proxy, which does not know it.
        assert os.environ["NO_PROXY"].endswith("127.0.0.1")
    assert not psutil.pid_exists(pid)
    assert node_resources()[0]["CPU"] == 2
    assert told == [f"the LLM server is up: tiny at {server.base_url}, log {server.log}"]
    log = (tmp_path / "server.log").read_text()
    environment = json.loads(log.split("environment: ")[1].splitlines()[0])
    assert environment == {
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": None,
        "VLLM_NO_USAGE_STATS": "1",
        "OF_THE_TEST": "yes",
    }


def test_a_stranger_who_took_the_port_is_not_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    with hostile_server() as stranger:
        stranger.say = lambda talk: talk.send(http(b"{}"))
        port = urlsplit(stranger.address).port
        monkeypatch.setattr(llm_actor, "_free_port", lambda *_: port)  # it was free when it was looked at
        with running(stand_in(tmp_path, "--after", str(go))) as actor:
            wait_for(actor, lambda _: stranger.requests > 2)
            assert actor.status().state == "starting"
            go.touch()
            status = wait_for(actor, lambda status: status.state != "starting")
    assert status.state == "failed"
    assert "ended with status 1 while it was starting; another program took its port meanwhile" in status.reason


@pytest.mark.ray
def test_a_server_that_ends_while_starting_shows_the_end_of_its_log(ray_cluster: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError) as told, serve_llm(stand_in(tmp_path, "--crash"), LLM):
        pass
    first, *tail = str(told.value).splitlines()
    assert first.startswith(
        "the LLM server ended with status 1 while it was starting; it has not the memory: lower --max"
    )
    assert f"{tmp_path}/server.log:" in first
    assert tail[-1] == "  | torch.OutOfMemoryError: CUDA out of memory"
    assert tail[0].startswith("  | loading ")  # in colour, in the log


@pytest.mark.ray
def test_a_server_that_never_is_well_is_given_up_and_stopped(
    ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits here: once the server is seen to run, ten minutes have passed."""
    look, passed = llm_server._status, 0.0

    def seen(actor: object) -> LLMStatus:
        nonlocal passed
        status = look(actor)
        passed = 600.0 if status.pid else 0.0
        return status

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed, sleep=time.sleep)
    monkeypatch.setattr(llm_server, "_status", seen)
    monkeypatch.setattr(llm_server, "time", clock)
    message = r"waited 6\d\d s for the LLM server, in vain; raise \[llm_server\] start_timeout"
    with pytest.raises(SetupError, match=message), serve_llm(stand_in(tmp_path, "--slow", "600"), LLM):
        pass
    for one in psutil.process_iter(["cmdline"]):
        if str(tmp_path) in (one.info["cmdline"] or []):  # the guard, which has a moment left
            wait_until_gone(one.pid)


@pytest.mark.ray
def test_gpus_that_are_not_there_are_refused(ray_cluster: str, tmp_path: Path) -> None:
    message = r"no machine .* has the 2 GPU\(s\) .* \(the most GPUs on one machine: 0\); .* set gpus = 0"
    with pytest.raises(SetupError, match=message), serve_llm(stand_in(tmp_path, gpus=2), LLM):
        pass


def test_a_server_may_start_slowly(tmp_path: Path) -> None:
    with running(stand_in(tmp_path, "--slow", "0.5")) as actor:
        assert wait_for(actor, lambda status: bool(status.tail)).state == "starting"
        assert wait_until_up(actor).tail == ""


def test_killed_it_comes_back_at_its_address_until_the_limit(tmp_path: Path) -> None:
    with running(stand_in(tmp_path, restarts=1)) as actor:
        first = wait_until_up(actor)
        os.kill(first.pid or 0, signal.SIGKILL)
        second = wait_until_up(actor, restarts=1)
        assert second.base_url == first.base_url
        assert second.pid != first.pid
        os.kill(second.pid or 0, signal.SIGKILL)
        failed = wait_for(actor, lambda status: status.state == "failed")
        assert failed.reason == (
            "the LLM server was killed by signal 9 and was started again 1 time(s) before; that is the limit "
            "([llm_server] restarts)"
        )


def test_a_restart_that_fails_counts_and_is_tried_again(tmp_path: Path) -> None:
    with running(stand_in(tmp_path, "--once", str(tmp_path / "started"), restarts=2)) as actor:
        os.kill(wait_until_up(actor).pid or 0, signal.SIGKILL)
        failed = wait_for(actor, lambda status: status.state == "failed")
        assert "ended with status 1 and was started again 2 time(s) before" in failed.reason
        assert "CUDA out of memory" in failed.tail


def test_a_server_that_hangs_is_killed_and_comes_back(tmp_path: Path) -> None:
    with running(stand_in(tmp_path), hung_seconds=0.5) as actor:
        first = wait_until_up(actor)
        os.kill(first.pid or 0, signal.SIGSTOP)
        assert wait_until_up(actor, restarts=1).base_url == first.base_url
        wait_until_gone(first.pid or 0)


def test_what_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    command = server_command(stand_in(tmp_path, "--deaf", "--child", str(child)), NAME, "127.0.0.1", free_port())
    process = ServerProcess(command, log=tmp_path / "log", environment=os.environ, grace=0.2)
    wait_for_file(child)
    process.stop()
    assert process.exit_status == -signal.SIGKILL
    wait_until_gone(process.pid)
    wait_until_gone(int(child.read_text()))


def test_a_server_that_ends_takes_its_children_along(tmp_path: Path) -> None:
    child = tmp_path / "child"
    command = server_command(stand_in(tmp_path, "--child", str(child)), NAME, "127.0.0.1", free_port())
    process = ServerProcess(command, log=tmp_path / "log", environment=os.environ)
    wait_for_file(child)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(30)
    assert process.exit_status == -signal.SIGKILL
    wait_until_gone(int(child.read_text()))
    process.stop()  # nothing is left to stop


def test_a_server_does_not_outlive_its_owner(tmp_path: Path) -> None:
    """Neither a worker that Ray kills (with its children) nor one that runs out of memory can say goodbye."""
    with start_script(
        """
        import os, sys
        from pathlib import Path
        from cluster.llm.process import ServerProcess
        process = ServerProcess(sys.argv[2:], log=Path(sys.argv[1]), environment=os.environ)
        print(process.pid, flush=True)
        sys.stdin.read()
        """,
        str(tmp_path / "log"),
        *server_command(stand_in(tmp_path), NAME, "127.0.0.1", free_port()),
        stdin=subprocess.PIPE,
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert psutil.pid_exists(pid)
        owner.kill()
    wait_until_gone(pid)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"python": "/no/such/python"}, "there is no program at /no/such/python on "),
        ({"model": "/no/such/model"}, "there is no folder /no/such/model on "),
        ({"log": "/proc/no/server.log"}, "cannot write the LLM server's log /proc/no/server.log on "),
        ({"command": ["-c", "import vllm"]}, "ended with status 1 while it was starting; that interpreter has no vLLM"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_on_the_machine_is_said(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with running(stand_in(tmp_path, **changes)) as actor:
        assert message in wait_for(actor, lambda status: status.state == "failed").reason


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(stand_in(tmp_path, port=port)) as actor:
            failed = wait_for(actor, lambda status: status.state == "failed")
    assert f"cannot listen on port {port} of {socket.gethostname()} (Address already in use)" in failed.reason


def test_a_running_server_is_waited_for_and_asked_what_it_serves(tmp_path: Path) -> None:
    with running(stand_in(tmp_path)) as actor:
        base_url = wait_until_up(actor).base_url
        with serve_llm(LLMServerConfig(base_url=base_url), LLM) as same:
            assert same == base_url
        attached = LLMServerConfig(base_url=base_url, start_timeout=0.1)
        other = r"does not serve 'tinny'; did you mean 'tiny'\?"
        with pytest.raises(SetupError, match=other), serve_llm(attached, "openai:tinny"):
            pass
    gone = rf"no OpenAI-compatible server answers at {base_url}/models"
    with pytest.raises(SetupError, match=gone), serve_llm(attached, LLM):
        pass


def test_the_command_is_vllm_serve_over_as_many_gpus_as_are_reserved() -> None:
    head = ["/opt/vllm/bin/python", "-m", "vllm.entrypoints.cli.main", "serve", "Qwen/Qwen3-8B"]
    tail = ["--served-model-name", "Qwen/Qwen3-8B", "--host", "10.0.0.7", "--port", "8000"]

    def command(**keys: object) -> list[str]:
        config = LLMServerConfig.model_validate({"python": "/opt/vllm/bin/python", **keys})
        return server_command(config, "Qwen/Qwen3-8B", "10.0.0.7", 8000)

    assert command() == [*head, *tail]
    assert command(gpus=2, args=["--x", "1"]) == [*head, *tail, "--tensor-parallel-size", "2", "--x", "1"]
    assert command(gpus=4, args=["-pp", "4"]) == [*head, *tail, "-pp", "4"]
    assert command(model="/models/q")[4] == "/models/q"
    assert LLMServerConfig().gpus == 1


def test_a_log_is_shown_without_colours_controls_and_our_own_questions(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = ["\x1b[31mred\x1b[0m and \x07bell", 'INFO: "GET /health HTTP/1.1" 200 OK', "", "x" * 500]
    log.write_bytes("\n".join(lines).encode() + b"\n\xff\n")
    assert log_tail(log).splitlines() == ["red and bell", "x" * 300, "\ufffd"]
    log.write_text("\n".join(str(number) for number in range(100_000)))
    assert log_tail(log).splitlines() == [str(number) for number in range(99_975, 100_000)]
    assert log_tail(tmp_path / "none") == ""


LISTED = json.dumps({"data": [{"id": NAME}]}).encode()


@pytest.mark.parametrize(
    ("say", "seconds"),
    [
        (lambda talk: talk.drip(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100), 1.0),
        (lambda talk: (talk.send(http(b"{", length=999)), talk.drip(b" " * 99)), 1.0),
        (lambda talk: (talk.send(http(b"{", length=2**40)), talk.pour(b" " * 2**16)), 10.0),
        (lambda talk: talk.send(http(b"[" * 100_000)), 10.0),
        (lambda talk: talk.send(http(LISTED, "503 Busy")), 10.0),
        (lambda talk: talk.send(b"SSH-2.0-OpenSSH_9.6\r\n"), 10.0),
    ],
    ids=["a header a byte a time", "a body a byte a time", "a body without end", "deep nesting", "503", "SSH"],
)
def test_a_server_that_says_odd_things_lists_no_models_in_time(say: Callable[[Talk], None], seconds: float) -> None:
    with hostile_server() as server:
        server.say = say
        began = time.monotonic()
        assert served_models(server.address, timeout=seconds) is None
        assert time.monotonic() - began < 5
        server.say = lambda talk: talk.send(http(LISTED))
        assert served_models(server.address) == [NAME]


def test_a_key_goes_to_no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    with hostile_server() as server, hostile_server() as other:
        server.say = lambda talk: talk.send(http(b"", "307 Moved", f"location: {other.address}/models"))
        other.say = lambda talk: talk.send(http(LISTED))
        assert served_models(server.address) is None
        assert (server.requests, other.requests) == (1, 0)


def test_no_proxy_to_this_machine_and_it_is_named_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with hostile_server() as server:
        server.say = lambda talk: talk.send(http(LISTED))
        assert served_models(server.address) == [NAME]
    away = LLMServerConfig(base_url="http://10.254.0.9/v1", start_timeout=0.1)
    with pytest.raises(SetupError, match=r"through the proxy http://127.0.0.1:9 \(HTTP_PROXY\)"), serve_llm(away, LLM):
        pass


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for_file(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.ray
def test_a_refinement_has_the_server_for_as_long_as_it_runs(ray_cluster: str, tmp_path: Path) -> None:
    """The address is filled in for the loop; what is stored with the session stays as it was configured."""
    section = stand_in(tmp_path).model_dump(mode="json", exclude={"base_url", "port"})
    config = make_config(tmp_path, refine={"llm": LLM}, llm_server=section)
    # Of the workplace, only the configuration and the cluster count here.
    place = Workplace(config, None, None, ray_address=ray_cluster)  # type: ignore[arg-type]
    with chat_server(place) as settings:
        assert settings.base_url is not None
        assert served_models(settings.base_url) == [NAME]
        model = make_chat_model(settings, seed=0, vocabulary=load_vocabulary())
        assert model.invoke("Hello?").text == "{}"
    assert served_models(settings.base_url) is None
    assert config.refine.base_url is None
    plain = make_config(tmp_path, refine={"llm": LLM})
    with chat_server(Workplace(plain, None, None)) as settings:  # type: ignore[arg-type]
        assert settings is plain.refine


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_server_and_the_embedding_actors_share_out_the_gpus(tmp_path: Path) -> None:
    """On a cluster that only says it has two GPUs: what is handed out is what a real one would hand out."""
    out = run_script(
        """
        import json, os, sys, tempfile
        import ray
        from cluster.llm.server import LLMServer
        from cluster.actors.pool import plan_actors
        from cluster.actors.runtime import node_resources
        from immuno_core.config.run import ClusterConfig
        from immuno_core.config.llm_server import LLMServerConfig

        class Seeing:
            def gpus(self):
                return os.environ["CUDA_VISIBLE_DEVICES"]

        with tempfile.TemporaryDirectory(prefix="llm-", dir="/tmp", ignore_cleanup_errors=True) as folder:
            ray.init(
                address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False,
                object_store_memory=80 * 2**20, _temp_dir=folder,
            )
            def started(plan, count):
                options = {"num_cpus": plan.num_cpus, "num_gpus": plan.num_gpus}
                return [ray.remote(Seeing).options(**options).remote() for _ in range(count)]

            def seen_by(actors):
                return sorted(ray.get([actor.gpus.remote() for actor in actors]))

            before = plan_actors(ClusterConfig(num_cpus=0.5), "auto", node_resources())
            alone = seen_by(actors := started(before, before.actors))
            for actor in actors:
                ray.kill(actor)
            with LLMServer.started(LLMServerConfig.model_validate_json(sys.argv[1]), "tiny"):
                plan = plan_actors(ClusterConfig(), "auto", node_resources())
                seen = seen_by(started(plan, 1))
            after = plan_actors(ClusterConfig(), "auto", node_resources())
            print(json.dumps([before.actors, alone, plan.actors, after.actors, *seen]))
            ray.shutdown()
        """,
        stand_in(tmp_path, gpus=1, cpus=1).model_dump_json(exclude={"base_url", "port"}),
    )
    before, alone, beside, after, seen = json.loads(out.splitlines()[-1])
    assert (before, alone, beside, after) == (2, ["0", "1"], 1, 2)
    log = (tmp_path / "server.log").read_text()
    own = json.loads(log.split("environment: ")[1].splitlines()[0])["CUDA_VISIBLE_DEVICES"]
    assert {own, seen} == {"0", "1"}
