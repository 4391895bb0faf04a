"""`python -m immuno`: the canonical command; run in a checkout, its rooms win over other packages of their names."""

import contextlib
import os
import sys
import traceback

from immuno.obstacles import in_the_way
from immuno.terminal import streams


def run() -> None:
    """Run the command line as a program; first see that its own packages are the ones that it would import."""
    streams.prepare()
    if (obstacle := in_the_way()) is not None:
        sys.stderr.write(f"error: {obstacle}\n")
        raise SystemExit(2)
    status = _status()
    with contextlib.suppress(streams.OutputError):  # told already
        sys.stdout.flush()
    # Everything is closed by now. The interpreter's own teardown, with native threads still about, has crashed
    # after a Ctrl-C (status -11 in 1 of 8 tries), waits for requests that nobody needs any more, and a Ctrl-C in the
    # midst of it makes a finished program look killed: it is left out.
    os._exit(status)


def _status() -> int:
    from immuno_core.system import signals

    try:
        signals.listen()
        from immuno.cli import main

        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    except KeyboardInterrupt:  # before the command line could tell it
        return signals.stopped_status()
    except streams.ReaderGoneError:
        return 141
    except BaseException:  # noqa: BLE001 - printed, as the interpreter would
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    run()
