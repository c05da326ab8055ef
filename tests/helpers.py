"""What tests of several folders share: where the checkout is, and how a command of it is run."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
PROGRAMS = ROOT / "tests" / "programs"


def run_python(*arguments: str, cwd: pathlib.Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `python ARGUMENTS` from the checkout, on CPU, and waits for it; a failure is the caller's to assert."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    variables = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", **environment}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=variables, capture_output=True, text=True)
