"""Other programs run in an environment of their own; this is the way to it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def peers_python() -> Path:
    """The Python of the peers' environment: STEMJAX_PEERS_PYTHON, or .venv-peers of this folder.

    Raises:
        FileNotFoundError: There is none; the message says how to make it.
    """
    named = os.environ.get("STEMJAX_PEERS_PYTHON")
    found = Path(named) if named else ROOT / ".venv-peers" / "bin" / "python"
    if not found.exists():
        where = f"STEMJAX_PEERS_PYTHON={named} does not exist" if named else "there is no .venv-peers"
        raise FileNotFoundError(f"{where}; run `make peers`, or set STEMJAX_PEERS_PYTHON to a Python that has abtem")
    return found


def run_peer(script: str, *options: str | int | float, timeout: float = 900.0) -> dict:
    """Run a script of benchmarks/peers and read the last line of its output as JSON.

    Args:
        script: Name of the script without its ending, as "fftw".
        options: Words of its command line.
        timeout: Longest time that it may take [s].

    Returns:
        What the script printed.

    Raises:
        FileNotFoundError: The environment or the script is missing.
        RuntimeError: The script failed; the message is the end of what it said.
    """
    done = subprocess.run(command_line(script, *options), capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{script} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def command_line(script: str, *options: str | int | float) -> list[str]:
    """The words that start a script of benchmarks/peers in its environment."""
    path = ROOT / "benchmarks" / "peers" / f"{script}.py"
    if not path.exists():
        raise FileNotFoundError(f"no script {script!r} in benchmarks/peers")
    return [str(peers_python()), str(path), *map(str, options)]


@contextmanager
def peer_session(script: str, *options: str | int | float) -> Iterator[tuple[dict, Callable[[], dict]]]:
    """Keep a script with `--paired` running, to measure it and our own code in turn under the same load.

    Args:
        script: Name of the script without its ending, as "abtem_multislice".
        options: Words of its command line; `--paired` is added.

    Yields:
        What the script said of itself at the start, and a function that makes it measure once and returns the answer.
    """
    command = command_line(script, *options, "--paired")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def answer() -> dict:
            line = stdout.readline()
            if not line:
                raise RuntimeError(f"{script} ended early with status {process.wait()}")
            return json.loads(line)

        def measure() -> dict:
            stdin.write("\n")
            stdin.flush()
            return answer()

        yield answer(), measure
        stdin.close()
