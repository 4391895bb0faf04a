"""`immuno ui`: the record as pages."""

from __future__ import annotations

from pathlib import Path

import click

from immuno.cli.options import database_option, needs_serving, open_database, whole
from immuno_core.text import printable


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where it listens; elsewhere a token is needed.")
@click.option("--port", type=whole(0, 65_535), default=8090, show_default=True, help="0 takes a free one.")
@click.option("--token-file", type=click.Path(path_type=Path), help="File of the token. Default: $IMMUNO_TOKEN.")
@database_option
def command(host: str, port: int, token_file: Path | None, database: str | None) -> int:
    """Serve the record as pages: sessions, antibodies, images, runs.

    It only reads, also while a session writes. Ctrl-C ends it. Off this machine's own names a browser asks for the
    token as a password, with any user.
    """
    with needs_serving():
        from immuno.serving.access import LOOPBACK_NAMES
        from immuno.serving.listening import address_of, listen, read_token
        from immuno.serving.running import serve
        from immuno.ui.app import make_app
    with open_database(database) as store:
        token = read_token(token_file)
        with listen(host, port, token=token) as listening:
            app = make_app(store, token=token, hosts={*LOOPBACK_NAMES, host.lower()})
            click.echo(printable(f"the record in {store.url}: {address_of(host, listening)}"), err=True)
            return serve(app, listening)
