"""Shows the help of main.py, and fails if JAX was imported for it."""

import runpy
import sys

from tests.helpers import ROOT

sys.argv = ["main.py", "--help"]
try:
    runpy.run_path(str(ROOT / "main.py"), run_name="__main__")
except SystemExit as end:
    assert end.code == 0
sys.exit("jax" in sys.modules)
