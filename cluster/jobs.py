"""Jobs of a Ray cluster, through its dashboard: what goes with one, submit, follow, and what came of it.

Ray's dashboard takes at most 100 MiB, not compressed, and what .gitignore and .rayignore name is left out: a
configuration that git ignores is silently missing on the cluster.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from immuno_core.config.secrecy import shown_address
from immuno_core.errors import ImmunoError, SetupError, first_line

_MIB: Final = 2**20
_ENTRY_BYTES: Final = 76
_SHOWN: Final = 5
_quiet = logging.getLogger("immuno.ray-packaging")
_quiet.setLevel(logging.ERROR)


class PackedFile(NamedTuple):
    """A file that goes with the job."""

    path: Path
    """Relative to the working folder."""
    size: int
    """Bytes."""


class WorkingDir:
    """A working folder as Ray sees it."""

    def __init__(self, root: Path) -> None:
        """Raise SetupError where there is no such folder."""
        if not root.is_dir():
            raise SetupError(f"there is no folder {root} to submit; name the checkout with --working-dir")
        self.root: Final = root.resolve()
        self.files: Final = tuple(sorted(_packed(self.root)))

    def holds(self, path: Path) -> bool:
        """Whether a file, or anything of a folder, goes with the job."""
        inner = path.resolve().relative_to(self.root)
        return any(file.path == inner or inner in file.path.parents for file in self.files)

    def contains(self, path: Path) -> bool:
        """Whether a path lies in the working folder at all."""
        return path.resolve().is_relative_to(self.root)

    def check_file(self, path: Path, what: str) -> None:
        """Raise SetupError if a file or folder within the working folder stays behind, naming the file that says so."""
        if not self.holds(path):
            inner = path.resolve().relative_to(self.root)
            rule = self._ignored_by(inner)
            where = f" ({rule} says so)" if rule else ""
            raise SetupError(
                f"{what} {inner} would not go with the job{where}: it would be missing on the cluster; take it out of "
                "the ignore file, move it, or give an absolute path that the machines of the cluster see"
            )

    def check_size(self) -> int:
        """Return how many bytes go. Raise SetupError if Ray's dashboard would refuse them, naming the largest."""
        from ray._private import ray_constants

        limit = int(getattr(ray_constants, "DASHBOARD_CLIENT_MAX_SIZE", 100 * _MIB))
        # Ray's zip files are not compressed; each entry takes two headers and twice its name.
        total = sum(file.size + _ENTRY_BYTES + 2 * len(str(file.path).encode()) for file in self.files)
        if total < limit:
            return total
        largest = sorted(self.files, key=lambda file: -file.size)[:_SHOWN]
        named = ", ".join(f"{file.path} ({file.size / _MIB:.1f} MiB)" for file in largest)
        folders = Counter[str]()
        for file in self.files:
            folders.update({folder.name: file.size for folder in file.path.parents[-2:-1]})
        inner = ", ".join(f"{name}/ ({size / _MIB:.1f} MiB)" for name, size in folders.most_common(_SHOWN))
        raise SetupError(
            f"{self.root} has {total / _MIB:.1f} MiB in {len(self.files)} files to upload, and Ray takes "
            f"{limit / _MIB:.0f} MiB; the largest: {named}; by folder: {inner or 'none'}. Add what the job does not "
            f"need to {self.root / '.rayignore'}, one name a line, and put data and weights where the cluster sees them"
        )

    def _ignored_by(self, inner: Path) -> str | None:
        """The ignore file that leaves a path out."""
        from ray._private.runtime_env.packaging import _get_ignore_file

        for folder in reversed([self.root / parent for parent in inner.parents]):
            for name in (".gitignore", ".rayignore") if _heeds_git() else (".rayignore",):
                rule = _get_ignore_file(folder, name)
                if rule is not None and any(rule(path) for path in self._down_to(inner) if path.is_relative_to(folder)):
                    return str((folder / name).relative_to(self.root))
        return None

    def _down_to(self, inner: Path) -> list[Path]:
        """The path and the folders above it, within the working folder."""
        return [self.root / part for part in (inner, *inner.parents) if part != Path()]


def _packed(root: Path) -> list[PackedFile]:
    """The files that Ray would pack, found as its own packing finds them."""
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    files = []

    def pack(path: Path) -> None:
        if path.is_file():
            files.append(PackedFile(path.relative_to(root), path.stat().st_size))

    rules = [_get_excludes(root, get_runtime_env_default_excludes())]
    _dir_travel(root, rules, pack, include_gitignore=_heeds_git(), logger=_quiet)
    return files


def _heeds_git() -> bool:
    return os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") != "1"


DEFAULT_ADDRESS: Final = "http://127.0.0.1:8265"
_LOST: Final = 5
"""How many times in a row the connection may be lost while a job is followed."""
_WAIT_SECONDS: Final = 2.0


class JobOutcome(NamedTuple):
    """How a job ended."""

    status: str
    """SUCCEEDED, FAILED or STOPPED."""
    exit_status: int
    """Its command's; 1 where there is none."""
    message: str


def dashboard_address(given: str | None) -> str:
    """Return the dashboard that is meant: the one given, $RAY_API_SERVER_ADDRESS, $RAY_ADDRESS, or this machine's.

    Raises SetupError for an address that is none of a dashboard.
    """
    candidates = (given, os.environ.get("RAY_API_SERVER_ADDRESS"), os.environ.get("RAY_ADDRESS"))
    address = next((one for one in candidates if one), DEFAULT_ADDRESS)
    if not address.startswith(("http://", "https://")):
        raise SetupError(
            f"jobs go to a cluster's dashboard, and '{address}' is none; give --address http://HEAD:8265 (on "
            "Kubernetes after: kubectl port-forward service/NAME-head-svc 8265)"
        )
    if shown_address(address) != address:
        raise SetupError("the dashboard's address holds a password or a key, which would be shown; use Ray's token")
    return address.rstrip("/")


class JobClient:
    """The jobs of one cluster."""

    def __init__(self, address: str) -> None:
        """Connect to a dashboard. Raises SetupError if it does not answer, or wants another token."""
        import ray.exceptions
        from ray.job_submission import JobSubmissionClient

        self.address: Final = address
        # Ray prefers these to the address that its client is given.
        os.environ["RAY_API_SERVER_ADDRESS"] = address
        for name in ("ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger("ray._private.runtime_env").setLevel(logging.ERROR)
        try:
            self._client = JobSubmissionClient(address)
        except ray.exceptions.AuthenticationError as error:
            raise SetupError(_token_wanted(address)) from error
        except Exception as error:
            # requests, aiohttp and Ray each have their own errors for an address where no dashboard is.
            raise SetupError(
                f"no Ray dashboard answers at {address} ({first_line(error).rstrip('.')}); give the head's with "
                "--address http://HEAD:8265, through a tunnel if need be: ssh -L 8265:localhost:8265 HEAD"
            ) from error

    def submit(self, command: Sequence[str], *, runtime_env: Mapping[str, Any]) -> str:
        """Upload the working folder and start a command; return the job's id.

        Raises SetupError where Ray refuses it.
        """
        try:
            job: str = self._client.submit_job(entrypoint=shlex.join(command), runtime_env=dict(runtime_env))
        except Exception as error:
            raise SetupError(f"the cluster at {self.address} does not take the job: {first_line(error)}") from error
        return job

    def follow(self, job: str, write: Callable[[str], None]) -> JobOutcome:
        """Hand the job's log to `write` as it comes, until the job has ended; return how.

        Raises ImmunoError if the dashboard is lost; the job then goes on.
        """
        written = lost = 0

        async def tail() -> None:
            nonlocal written, lost
            seen = 0
            async for text in self._client.tail_job_logs(job):
                seen += len(text)
                # A connection that was lost and made again tells everything from the beginning.
                if (new := seen - written) > 0:
                    write(text[-new:])
                    written, lost = seen, 0

        while True:
            try:
                asyncio.run(tail())
                info = self._client.get_job_info(job)
                if info.status.is_terminal():
                    break
            except Exception as error:
                lost += 1
                if lost > _LOST:
                    raise ImmunoError(
                        f"the dashboard at {self.address} does not answer any more ({type(error).__name__}); the job "
                        f"goes on: {self.follow_command(job)}"
                    ) from error
            time.sleep(_WAIT_SECONDS)
        status = str(info.status.value)
        code = 0 if status == "SUCCEEDED" else info.driver_exit_code
        message = (info.message or "").split(", last available logs")[0]
        return JobOutcome(status, code if code is not None and 0 <= code <= 255 else 1, message.strip())

    def follow_command(self, job: str) -> str:
        """Return the command line that shows a job's log."""
        return f"ray job logs --follow --address {self.address} {job}"


def _token_wanted(address: str) -> str:
    token = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token" and (token or os.environ.get("RAY_AUTH_TOKEN")):
        where = f"the token in {token}" if token else "$RAY_AUTH_TOKEN"
        return f"the cluster at {address} does not take {where}; copy its head's ~/.ray/auth_token anew"
    return (
        f"the cluster at {address} asks for its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a copy of "
        "its head's ~/.ray/auth_token"
    )


def check_token() -> None:
    """Raise SetupError where the environment names a token that is not there."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if path and not os.environ.get("RAY_AUTH_TOKEN") and not Path(path).is_file():
        raise SetupError(f"RAY_AUTH_TOKEN_PATH names {path}, which is no file; copy the head's ~/.ray/auth_token there")
