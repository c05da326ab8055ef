"""What tests of several folders share: where the checkout is, and how a program of it is run."""

import os
import pathlib
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
PROGRAMS = ROOT / "tests" / "programs"


def start_python(*arguments: Any, cwd: pathlib.Path = ROOT, env: Any = None, **options: Any) -> subprocess.Popen[str]:
    """Starts `python ARGUMENTS` on CPU, from the checkout, and does not wait for it; options are those of Popen."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, env=_environment(env or {}), text=True, **options)


def run_python(*arguments: Any, cwd: pathlib.Path = ROOT, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Runs `python ARGUMENTS` on CPU, from the checkout, to its end; whether it failed is the caller's to assert.

    Args:
      *arguments: of the interpreter, turned into text.
      cwd: where it runs.
      **variables: of the environment, beside those of this process; None takes one away.

    Returns:
      The process that ended, with its output as text.
    """
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=_environment(variables), capture_output=True, text=True)


def _environment(variables: dict[str, Any]) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    together = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", **variables}
    return {name: str(value) for name, value in together.items() if value is not None}
