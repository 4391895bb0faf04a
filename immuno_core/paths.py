"""Where things are kept when nobody says otherwise.

`ray job submit --working-dir` runs a command in a copy of the checkout that Ray deletes some time after the job. What a
job writes to a relative path would go with it, so there such paths are taken from `runs_root` instead.
"""

from __future__ import annotations

import os
from pathlib import Path


def plain_path(path: Path) -> Path:
    """Return the path; one with ".." as an absolute one without, so that one file has one name.

    Links stay, but for one that ".." follows: from there it leads to what contains the folder linked to.
    """
    if ".." not in path.parts:
        return path
    whole = path.absolute()
    at = Path(whole.anchor)
    for part in whole.parts[1:]:
        at = (at.resolve() if at.is_symlink() else at).parent if part == ".." else at / part
    return at


_RAY_COPIES = "working_dir_files"
"""The folder, within Ray's temporary one, of the copies in which jobs run."""


def in_copy_of_a_job() -> bool:
    """Whether the working folder is the copy of a checkout that Ray made for a job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and _RAY_COPIES in Path.cwd().parts


def runs_root() -> Path:
    """Return the folder of results and of the default database: $IMMUNO_RUNS, else `runs` in the working folder.

    In a Ray job it is always absolute, and without $IMMUNO_RUNS it is `immuno-runs` in the home folder.
    """
    chosen = os.environ.get("IMMUNO_RUNS")
    if in_copy_of_a_job():
        return Path.home() / (Path(chosen).expanduser() if chosen else "immuno-runs")
    return Path(chosen).expanduser() if chosen else Path("runs")


def lasting(path: Path) -> Path:
    """Return where a file or folder that a user named is written: in a Ray job not within the job's copy."""
    path = path.expanduser()
    if path.is_absolute() or not in_copy_of_a_job():
        return path
    # "runs/x" and "x" are one place there: the root is what `runs` is elsewhere.
    return runs_root() / (path.relative_to("runs") if path.parts[:1] == ("runs",) else path)


RUNS = runs_root()
DEFAULT_DATABASE = RUNS / "immuno.db"
DEMO_DATABASE = RUNS / "demo" / "immuno.db"
"""Where `demo` writes when no other folder is named."""


def default_database() -> Path:
    """Return the SQLite file that every command reads and writes where neither --db nor $IMMUNO_DB names one.

    `DEFAULT_DATABASE`, unless only the demo's exists: what a demo left is then found, and gone on with, by all commands
    alike. Where there is neither, the first is the one to make.
    """
    return DEMO_DATABASE if DEMO_DATABASE.exists() and not DEFAULT_DATABASE.exists() else DEFAULT_DATABASE


def shipped_configs() -> Path:
    """Return the folder of the configurations that come with immuno: in the installed package, else in the checkout."""
    home = Path(__file__).resolve().parent.parent
    installed = home / "immuno" / "configs"
    return installed if installed.is_dir() else home / "configs"


def cache_root() -> Path:
    """Return $IMMUNO_CACHE, else $XDG_CACHE_HOME/immuno, else ~/.cache/immuno."""
    if chosen := os.environ.get("IMMUNO_CACHE"):
        return Path(chosen).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    return (Path(shared) if Path(shared).is_absolute() else Path.home() / ".cache") / "immuno"
