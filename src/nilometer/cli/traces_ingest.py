"""`nilometer traces ingest`: from trace files to calls, with their cost."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nilometer.cli.output import show_json
from nilometer.cli.usage_source import PricesFile
from nilometer.errors import ConfigurationError, InvalidInput

if TYPE_CHECKING:
    from nilometer.importers.chunk import Chunk, Limits, Options, Position
    from nilometer.importers.ingestion import Keeper, Progress, Work
    from nilometer.importers.reading import Source
    from nilometer.importers.statistics import Statistics
    from nilometer.importers.store import TraceStore
    from nilometer.importers.store.store import Run

DB = Path("traces.db")
_LOOK_AGAIN_SECONDS = 0.5

Db = Annotated[
    Path,
    typer.Option(
        "--db", envvar="NILOMETER_TRACES_DB", show_envvar=True, help="The database.", dir_okay=False
    ),
]
Repo = Annotated[
    str | None,
    typer.Option("--repo", metavar="O/N", help="The repository of calls that name none."),
]
Developer = Annotated[str | None, typer.Option(help="The developer of calls that name none.")]


@dataclass(frozen=True, slots=True)
class _Wanted:
    files: list[str]
    db: Path
    server: str | None
    key: str | None
    dry_run: bool
    follow: bool
    again: bool
    workers: int | None


def ingest(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Files, folders, patterns (`**` too), or `-` for standard input; plain, gzip or "
            "zstd.",
        ),
    ],
    db: Db = DB,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Send the calls there; the database has checkpoints and dead letters.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="NILOMETER_API_KEY", show_envvar=True, help="The server's project key."
        ),
    ] = None,
    repo: Repo = None,
    developer: Developer = None,
    parquet_dir: Annotated[
        Path | None,
        typer.Option(help="Bring Parquet files there up to the database.", file_okay=False),
    ] = None,
    dead_letter_dir: Annotated[
        Path | None,
        typer.Option(help="Write dead letters there too, a file a source.", file_okay=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read, price, keep nothing.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on as one file grows, until interrupted.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Read files from their start that were read before.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=0, max=64, help="Processes that parse; 0 for none.")
    ] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Tell rates and times too.")] = False,
    prometheus: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write Prometheus' text.", dir_okay=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    prices_file: PricesFile = None,
) -> None:
    """Read trace files: LiteLLM, Claude Code, OTLP, ProdLens. Each call is kept once."""
    from nilometer.cli import traces_summary
    from nilometer.importers import statistics as measured
    from nilometer.importers.ingestion import Work

    if server is not None and (parquet_dir is not None or dry_run):
        raise InvalidInput("--server goes with neither --parquet-dir nor --dry-run")
    wanted = _Wanted(files, db, server, key, dry_run, follow, again, workers)
    work = Work(options(repo, developer), prices_file, calls=server is not None)
    with ExitStack() as stack:
        store = None if dry_run else stack.enter_context(_opened(db))
        reprices = prices_file is not None
        run = None if store is None else stack.enter_context(store.run(reprices=reprices))
        keeper = stack.enter_context(_keeper(wanted, run))
        done = _ingested(wanted, work, keeper)
        if run is not None:
            run.end()
        if store is not None and dead_letter_dir is not None:
            _write_letters(store, dead_letter_dir, files)
        if store is not None and parquet_dir is not None:
            from nilometer.importers.parquet.export import export

            export(store, parquet_dir)
    if prometheus is not None:
        from nilometer.cli.whole_file import written_whole

        with written_whole(prometheus) as file:
            file.write(measured.prometheus(done).encode())
    if as_json:
        show_json(traces_summary.document(done))
    else:
        traces_summary.show(done, stats=stats, sent=server is not None)


def options(repo: str | None, developer: str | None) -> Options:
    """What a person says of records. Raises InvalidInput for what is no repository."""
    from nilometer.domain import clock
    from nilometer.importers import repository
    from nilometer.importers.chunk import Options

    if repo is not None:
        repository.checked(repo)
    return Options(repo, developer, clock.to_micros(clock.now()))


def _opened(db: Path) -> TraceStore:
    from nilometer.importers.store import TraceStore

    return TraceStore(db)


@contextmanager
def _keeper(wanted: _Wanted, run: Run | None) -> Generator[Keeper]:
    from nilometer.importers.keepers import Anew, NoKeeper, StoreKeeper

    if run is None:
        yield NoKeeper()
    elif wanted.server is None:
        keeper = StoreKeeper(run)
        yield Anew(keeper) if wanted.again else keeper
    else:
        from nilometer.importers.sending import sending

        if not wanted.key:
            raise ConfigurationError(
                "give the server's project key with --key or NILOMETER_API_KEY", attr="key"
            )
        with sending(wanted.server, wanted.key, run) as sender:
            yield Anew(sender) if wanted.again else sender


def _ingested(wanted: _Wanted, work: Work, keeper: Keeper) -> Statistics:
    from nilometer.importers import ingestion, reading
    from nilometer.importers.store.store import Counts

    sources = reading.sources(wanted.files)
    if wanted.follow:
        if len(sources) != 1:
            raise InvalidInput("--follow takes one file")
        with _stopping() as stopped:
            rest = Counts()

            def wait(source: Source) -> bool:
                rest.add(keeper.rest(source).counts)
                return not stopped.wait(_LOOK_AGAIN_SECONDS)

            done = ingestion.ingest(
                sources, keeper, work, workers=0, chunks_of=partial(_following, wait)
            )
        done.counts.add(rest)
        return done
    with _progress(sources) as progress:
        return ingestion.ingest(sources, keeper, work, workers=wanted.workers, progress=progress)


def _following(
    wait: Callable[[Source], bool], source: Source, start: Position, limits: Limits
) -> Iterator[Chunk]:
    from nilometer.importers.following import follow

    return follow(source, partial(wait, source), start, limits)


@contextmanager
def _stopping() -> Generator[threading.Event]:
    """An event that an interrupt or a request to end sets: what has come is kept first."""
    stopped = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        stopped.set()

    signals: list[signal.Signals] = [signal.SIGINT, signal.SIGTERM]
    before = [signal.signal(each, stop) for each in signals]
    try:
        yield stopped
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)


@contextmanager
def _progress(sources: list[Source]) -> Generator[Progress | None]:
    """A bar a file, where a person looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from nilometer.cli.output import visible

    columns = (
        *(TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn()),
        *(TransferSpeedColumn(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=Console(file=sys.stderr)) as bars:
        tasks = {
            source.name: bars.add_task(visible(source.name), total=source.size, start=True)
            for source in sources
        }
        update: Callable[..., None] = bars.update
        yield lambda source, read: update(tasks[source.name], completed=read)


def _write_letters(store: TraceStore, folder: Path, files: list[str]) -> None:
    from nilometer.importers import reading
    from nilometer.importers.letter_files import write

    for source in reading.sources(files):
        write(store, source.key, folder)
