"""The commands and their flags, named as Prometheus names them."""

import argparse
import asyncio
import errno
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NoReturn, TypeVar

from exporter import __version__, logs
from exporter.config import ConfigError, Settings, dump, load_settings
from exporter.log_handler import ThreadedHandler
from exporter.shard import Shard, ordinal
from exporter.streams import let_go_of_output, open_missing, tell

UNUSABLE = 2
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}

FEWEST_FILES = 32
"""What the program has open before its first connection is about half of it."""

DEFAULT_LISTEN = ":9977"
DEMO_LISTEN = "127.0.0.1:9977"
T = TypeVar("T")

EPILOG = """\
first steps:
  r2-exporter demo                        see it at work, with a storage of its own and no account
  r2-exporter check-config                is exporter.yaml right?
  r2-exporter check                       does every target answer?
  r2-exporter serve                       probe on, and serve /metrics
"""


class UnusableError(Exception):
    """Arguments that do not go together."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and exits: 0 good, 1 unhealthy or failed, 2 unusable arguments or configuration."""
    open_missing()
    try:
        try:
            status = _run(arguments)
        finally:
            sys.stdout.flush()
    except (ConfigError, UnusableError) as error:
        tell(str(error))
        status = UNUSABLE
    except BrokenPipeError:
        # Whoever read our output has left; there is nobody to tell.
        let_go_of_output()
        status = 1
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        let_go_of_output()
        tell(f"r2-exporter: standard output: {error.strerror}")
        status = 1
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


def _run(arguments: Sequence[str] | None) -> int:
    options = parser().parse_args(arguments)
    open_as_many_files_as_allowed()
    command: Callable[[argparse.Namespace], int] = options.run
    return command(options)


def run_loop(work: Coroutine[object, object, T]) -> T:
    """Runs `work` on uvloop where there is one: its timers and sockets add less to what we measure.

    In debug mode on asyncio's own: uvloop looks at frames that are just being made, and leaves them broken.
    https://github.com/MagicStack/uvloop/issues/715
    """
    if sys.flags.dev_mode or os.environ.get("PYTHONASYNCIODEBUG"):
        return asyncio.run(work, debug=True)
    try:
        import uvloop  # noqa: PLC0415  not on every platform
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _serve(options: argparse.Namespace) -> int:
    # Its default is to end the process: until it can be obeyed, a reload waits.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    gc.disable()  # until all is loaded: there is no garbage yet, and much to look at
    from exporter.serve import serve  # noqa: PLC0415  `--help` need not wait for boto3

    listen = options.listen or [parse_listen(DEFAULT_LISTEN)]
    with _logging(options):
        return run_loop(
            serve(_loader(options), options.storage, listen, options.web_config, shard=_shard(options))
        )


def open_as_many_files_as_allowed() -> None:
    """A connection is one, and the usual soft limit of 1024 is for programs that use select(2).

    Raises UnusableError if not even the first few can be had, without which there is no event loop.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # what some systems call unlimited is more than they allow
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEWEST_FILES:
        raise UnusableError(f"the limit of open files is {soft}, too low: see `ulimit -n`")


@contextmanager
def _logging(options: argparse.Namespace) -> Iterator[None]:
    handler = ThreadedHandler(sys.stderr.fileno())
    logs.configure(options.log_level, options.log_format, handler)
    try:
        yield
    finally:
        handler.flush()  # before anybody else writes there


def _shard(options: argparse.Namespace) -> Shard:
    try:
        number = ordinal(socket.gethostname()) if options.shard == "auto" else options.shard
        return Shard(number, options.total_shards)
    except ValueError as error:
        flags = f"--shard={options.shard} --total-shards={options.total_shards}"
        raise UnusableError(f"{flags}: {error}") from error


def _demo(options: argparse.Namespace) -> int:
    from exporter.demo import DemoError  # noqa: PLC0415  as above
    from exporter.serve import demo  # noqa: PLC0415

    try:
        with _logging(options):
            return run_loop(demo(options.listen or [parse_listen(DEMO_LISTEN)], options.web_config))
    except DemoError as error:
        tell(f"r2-exporter demo: {error}")
        return 1


def _check(options: argparse.Namespace) -> int:
    from exporter.check import check  # noqa: PLC0415  as above

    logs.configure("error", options.log_format, logging.StreamHandler(sys.stderr))
    return run_loop(check(_loader(options)(), options.target, options.output))


def _check_config(options: argparse.Namespace) -> int:
    settings = _loader(options)()
    if options.print:
        print(dump(settings), end="")
    else:
        count = len(settings.targets)
        print(f"{options.config}: valid, {count} target{'s' if count != 1 else ''}")
    return 0


def _healthcheck(options: argparse.Namespace) -> int:
    from exporter.healthcheck import healthcheck  # noqa: PLC0415  as above

    return healthcheck(options.url)


def _loader(options: argparse.Namespace) -> Callable[[], Settings]:
    path: Path = options.config
    return lambda: load_settings(path, os.environ)


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    root = argparse.ArgumentParser(
        prog="r2-exporter",
        description="Probes Cloudflare R2, or any S3-compatible storage, with real signed operations, "
        "and tells Prometheus how it went.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"r2-exporter {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = _command(commands, "serve", _serve, "probe every target on its interval and serve /metrics")
    _add_config(serve)
    serve.add_argument(
        "--storage.path",
        dest="storage",
        type=Path,
        default=Path("r2-exporter.db"),
        metavar="FILE",
        help="the history, an SQLite database of this exporter alone; made if it is not there "
        "(default: %(default)s)",
    )
    _add_shard(serve)
    _add_web(serve, DEFAULT_LISTEN)
    _add_log(serve)

    demo = _command(
        commands, "demo", _demo, "serve, with a storage of its own that plays an outage on a loop"
    )
    _add_web(demo, DEMO_LISTEN)
    _add_log(demo)

    check = _command(commands, "check", _check, "probe every target once; exit 1 if one is unhealthy")
    _add_config(check)
    check.add_argument(
        "--target", action="append", default=[], metavar="NAME", help="only this target (repeatable)"
    )
    check.add_argument("--output", choices=["text", "json"], default="text", help="default: %(default)s")
    check.set_defaults(log_format="logfmt")

    check_config = _command(
        commands, "check-config", _check_config, "report every error of a configuration file"
    )
    _add_config(check_config)
    check_config.add_argument(
        "--print", action="store_true", help="print the effective settings, secrets as ***"
    )

    health = _command(
        commands, "healthcheck", _healthcheck, "exit 0 if a running exporter is healthy, else 1"
    )
    health.add_argument(
        "--url",
        default="http://127.0.0.1:9977/-/healthy",
        help="where to ask; its certificate is not verified (default: %(default)s)",
    )
    return root


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    purpose: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
    command.set_defaults(run=run)
    return command


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config.file",
        dest="config",
        type=Path,
        default=Path("exporter.yaml"),
        metavar="FILE",
        help="what to probe (default: %(default)s)",
    )


def _add_shard(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--shard",
        type=parse_shard,
        default=0,
        metavar="N",
        help="which of several exporters that divide the targets this is, from 0; auto: the number at the "
        "end of the host name, as a StatefulSet's pods have it (default: %(default)s)",
    )
    command.add_argument(
        "--total-shards",
        type=int,
        default=1,
        metavar="M",
        help="how many exporters divide the targets among them (default: %(default)s)",
    )


def _add_web(command: argparse.ArgumentParser, listen: str) -> None:
    command.add_argument(
        "--web.listen-address",
        dest="listen",
        type=parse_listen,
        action="append",
        metavar="HOST:PORT",
        help=f"where to serve; without a host, on every interface (repeatable, default: {listen})",
    )
    command.add_argument(
        "--web.config.file",
        dest="web_config",
        type=Path,
        metavar="FILE",
        help="TLS, client certificates and basic auth, in exporter-toolkit's format",
    )


def _add_log(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--log.level",
        dest="log_level",
        choices=["debug", "info", "warn", "error"],
        default="info",
        help="default: %(default)s",
    )
    command.add_argument(
        "--log.format",
        dest="log_format",
        choices=["logfmt", "json"],
        default="logfmt",
        help="default: %(default)s",
    )


def parse_listen(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `[IPv6]:PORT` or `:PORT` as host and port. Raises ArgumentTypeError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise argparse.ArgumentTypeError(f"write an IPv6 address in brackets: [{host}]:{port}")
    if not colon or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as :9977 or 127.0.0.1:9977")
    try:
        host.encode("idna")
    except UnicodeError:
        raise argparse.ArgumentTypeError(f"{host!r} cannot be a host's name") from None
    return host, int(port)


def parse_shard(text: str) -> int | Literal["auto"]:
    """A number, or `auto`. Raises ArgumentTypeError."""
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 0 nor auto")
    return int(text)
