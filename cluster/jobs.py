"""Jobs of a Ray cluster, through its dashboard: submit, follow, and what came of it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from immuno.errors import ImmunoError, SetupError

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
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise SetupError(
                f"no Ray dashboard answers at {address} ({first.rstrip('.')}); give the head's with --address "
                "http://HEAD:8265, through a tunnel if need be: ssh -L 8265:localhost:8265 HEAD"
            ) from error

    def submit(self, command: Sequence[str], *, runtime_env: Mapping[str, Any], **options: Any) -> str:
        """Upload the working folder and start a command; return the job's id. `options` as Ray's submit_job has them.

        Raises SetupError where Ray refuses it.
        """
        import shlex

        try:
            job: str = self._client.submit_job(entrypoint=shlex.join(command), runtime_env=dict(runtime_env), **options)
        except Exception as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise SetupError(f"the cluster at {self.address} does not take the job: {first}") from error
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
                        f"goes on: {self.commands(job)['follow']}"
                    ) from error
            time.sleep(_WAIT_SECONDS)
        status = str(info.status.value)
        code = 0 if status == "SUCCEEDED" else info.driver_exit_code
        message = (info.message or "").split(", last available logs")[0]
        return JobOutcome(status, code if code is not None and 0 <= code <= 255 else 1, message.strip())

    def commands(self, job: str) -> dict[str, str]:
        """Return the command lines that follow a job, ask for its status, and stop it."""
        at = f"--address {self.address} {job}"
        return {
            "follow": f"ray job logs --follow {at}",
            "status": f"ray job status {at}",
            "stop": f"ray job stop {at}",
        }


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
