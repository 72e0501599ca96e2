"""The command line. The body of a command is imported when it runs, so that `--help` loads no jax."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from stemjax.app.interruption import Interrupted
from stemjax.core.errors import InputError, nearest
from stemjax.core.setup import hush

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
"""Exit statuses: something given is wrong; the run failed; interrupted from the keyboard."""

RESULT = "result.h5"
"""Name of the result in the folder of a run."""


class EndedError(Exception):
    """An interruption on its way to `main`; typer would swallow a KeyboardInterrupt and its message."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


app = typer.Typer(
    name="stemjax",
    help="Differentiable simulation and reconstruction for STEM.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML configuration.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override one entry, e.g. -s probe.defocus='10 nm'."),
]


def _version(wanted: bool) -> None:
    if wanted:
        import stemjax

        typer.echo(f"stemjax {stemjax.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error (any place).")] = False,
) -> None:
    """Differentiable simulation and reconstruction for STEM."""


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")] = Path("demo"),
    size: Annotated[str, typer.Option(help="small (about a minute) or large.")] = "small",
) -> None:
    """Simulate a recording of MoS2, reconstruct it, and write a report against the truth."""
    if size not in ("small", "large"):
        raise InputError(f"--size {size} is not known; give small or large")
    _setup()
    from stemjax.app.demo import demo as run_demo

    with _interruptible():
        run_demo(folder, size)


@app.command()
def init(
    problem: Annotated[str, typer.Argument(metavar="PROBLEM", help="ptychography or simulation.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Data (ptychography) or atoms (simulation).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The YAML file; PROBLEM.yaml if left out.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
) -> None:
    """Write a commented configuration, filled with what FILE tells."""
    from stemjax.app.init import write_config

    typer.echo(f"wrote {write_config(problem, file, output, force=force)}")


@app.command()
def check(config: Config, overrides: Set = None) -> None:
    """Check CONFIG and its data, and print optics, overlap, dose, memory and expected time. Computes nothing else."""
    from stemjax.app.check import check_config

    for line in check_config(config, overrides or ()):
        typer.echo(line)


@app.command()
def run(
    config: Config,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the results.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in the folder.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a finished result in the folder.")] = False,
    overrides: Set = None,
) -> None:
    """Solve the problem of CONFIG."""
    from stemjax.app.config import load_config
    from stemjax.app.fit.settings import FitSettings
    from stemjax.problems.ptychography.settings import PtychographySettings

    settings = load_config(config, overrides or ())
    if isinstance(settings, FitSettings):
        _run_fit(settings, output or Path("results") / config.stem, force=force)
        return
    if not isinstance(settings, PtychographySettings):
        raise InputError(f"{config.name} is a simulation; use: stemjax simulate {config} -o FILE.h5")
    _setup(settings.solver.devices, settings.solver.dtype)
    from stemjax.app.folder import claimed
    from stemjax.app.job import run_job
    from stemjax.app.progress import Reporting

    folder = output or Path(settings.output.folder or Path("results") / config.stem)
    with _interruptible(), claimed(folder), _logged(folder) as log, Reporting(log=log) as reporter:
        result = run_job(settings, folder, resume, reporter, force=force)
    _report_end(result)


def _run_fit(settings: Any, folder: Path, *, force: bool) -> None:
    """A fit; in double precision, since error bars come from second derivatives."""
    _setup(settings.devices, "float64")
    from stemjax.app.fit.run import run_fit
    from stemjax.app.folder import claimed
    from stemjax.app.progress import Reporting

    with _interruptible(), claimed(folder), _logged(folder) as log, Reporting(log=log) as reporter:
        result = run_fit(settings, folder, reporter, force=force)
    typer.echo(str(result))
    _report_end(result)


@app.command()
def bounds(config: Config, overrides: Set = None) -> None:
    """Print how well the data of a fit could tell each unknown (Cramér-Rao), and what they cannot see."""
    from stemjax.app.config import load_config
    from stemjax.app.fit.settings import FitSettings

    settings = load_config(config, overrides or ())
    if not isinstance(settings, FitSettings):
        raise InputError(f"{config.name} is no fit; give a configuration with problem: fit")
    _setup(settings.devices, "float64")
    from stemjax.app.fit.run import bounds_of

    for line in bounds_of(settings):
        typer.echo(line)


@contextmanager
def _logged(folder: Path) -> Iterator[Any]:
    """The log of a run; a disk that is full when it is closed does not end a run that went well."""
    from stemjax.app.log import open_log

    log = open_log(folder / "log.jsonl")
    try:
        yield log
    except BaseException as error:
        with suppress(OSError):
            log.write("error", kind=type(error).__name__, message=str(error))
        raise
    finally:
        with suppress(OSError):
            log.close()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Bring the message and status of an interrupted job to `main`."""
    try:
        yield
    except Interrupted as error:
        raise EndedError(str(error), error.status) from None


@app.command()
def simulate(
    config: Config,
    output: Annotated[Path, typer.Option("--output", "-o", help="File of the recording (HDF5).", show_default=False)],
    overrides: Set = None,
) -> None:
    """Simulate the recording that CONFIG describes."""
    from stemjax.app.check import thermal_remark
    from stemjax.app.config import load_config
    from stemjax.app.simulation.settings import SimulationSettings

    settings = load_config(config, overrides or ())
    if not isinstance(settings, SimulationSettings):
        raise InputError(f"{config.name} is no simulation; use: stemjax run {config}, or write problem: simulation")
    from stemjax.app.config import named_files

    if output.resolve() in {config.resolve(), *(Path(name).resolve() for name in named_files(settings))}:
        raise InputError(
            f"--output {output} is an input of this simulation; give another name, such as {config.stem}.h5"
        )
    _setup(settings.devices)
    from stemjax.app.simulation.run import simulate as run_simulation

    with _interruptible():
        written = run_simulation(settings, output)
    for remark in thermal_remark(settings):
        print(f"remark: {remark}", file=sys.stderr)
    typer.echo(written.how)
    for file in written.files:
        typer.echo(f"wrote {file}")


@app.command()
def inspect(file: Annotated[Path, typer.Argument(metavar="FILE", help="Data or a result.")]) -> None:
    """Print what FILE holds: shape, optics, what is missing."""
    from stemjax.app.inspect import inspect_file

    for line in inspect_file(file):
        typer.echo(line)


@app.command()
def report(folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.")]) -> None:
    """Write the report of a run (HTML and figures) again."""
    if not (folder / RESULT).is_file():
        raise InputError(f"no {RESULT} in {folder}; give the folder of a finished run (stemjax run CONFIG -o DIR)")
    from stemjax.io import read_result
    from stemjax.report.page import write_report

    typer.echo(f"wrote {write_report(read_result(folder / RESULT), folder)}")


@app.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables of keys in Markdown instead.")] = False,
) -> None:
    """Print the JSON schema of configurations, for editors."""
    from stemjax.app.config import reference_tables, schema_text

    typer.echo(reference_tables() if markdown else schema_text(), nl=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and turn every error into one line and an exit status.

    Args:
        arguments: Words of the command line; those of the process unless given.

    Returns:
        0 if it went well, 2 for bad input, 1 for a failed run, 130 if interrupted, 143 if terminated.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    hush()
    try:
        _check_command(words)
        with _terminated():
            status = app([word for word in words if word != "--debug"], standalone_mode=False)
        # typer turns an interruption from the keyboard into this status and says nothing.
        return _complain(KeyboardInterrupt()) if status == INTERRUPTED else status if isinstance(status, int) else 0
    except BrokenPipeError:
        # The reader of a pipe has gone (`stemjax inspect f | head`); flushing at exit must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        return _complain(error)


@contextmanager
def _terminated() -> Iterator[None]:
    """Let SIGTERM end a command with a message; a job has words of its own while it runs."""

    def stop(number: int, frame: Any) -> None:  # noqa: ARG001 - signature of a handler
        raise EndedError("ended by SIGTERM", 128 + number)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_command(words: Sequence[str]) -> None:
    """Refuse a misspelt command with the nearest one."""
    known = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
    first = next((word for word in words if not word.startswith("-")), None)
    if first is not None and words[0] == first and first not in known:
        raise InputError(f"no command '{first}'; {nearest(first, known)}; see stemjax --help")


def _complain(error: BaseException) -> int:
    """Print an error on standard error, a line each, and return the exit status."""
    lines, status = _words(error)
    for line in lines:
        print(f"stemjax: {line}", file=sys.stderr)
    return status


def _words(error: BaseException) -> tuple[list[str], int]:
    if isinstance(error, InputError):
        return str(error).splitlines(), BAD_INPUT
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return ["interrupted"], INTERRUPTED
    if isinstance(error, EndedError):
        return [str(error)], error.status
    if isinstance(error, MemoryError):
        return ["not enough memory; `stemjax check` shows what is needed; take a smaller batch or crop"], BAD_INPUT
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return [f"{name}{error.strerror or error}; check the path, the permissions and the space left"], BAD_INPUT
    # Usage errors: typer carries its own copy of click, so they are known by what they can do.
    if hasattr(error, "format_message"):
        return [f"{error.format_message()} See: stemjax --help".replace("\n", " ")], getattr(
            error, "exit_code", BAD_INPUT
        )
    text = " ".join(str(error).split())[:300]
    return [f"failed: {type(error).__name__}: {text}; run again with --debug for the traceback"], FAILED


def _setup(devices: int | str = "auto", dtype: str = "float32") -> None:
    """Set jax up once, before anything computes."""
    import stemjax

    stemjax.setup(devices=devices if isinstance(devices, int) else None, double=dtype == "float64")


def _report_end(result: Any) -> None:
    """The last word of a run; one that did not end well has an exit status of its own."""
    if result is not None and not getattr(result, "success", True):
        print(f"stemjax: {result.status}", file=sys.stderr)
        raise typer.Exit(FAILED)


if __name__ == "__main__":
    sys.exit(main())
