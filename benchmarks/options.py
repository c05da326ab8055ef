"""Flags that most benchmarks share; a command adopts them by `flags.adopt_module_key_flags(options)`."""

from collections.abc import Mapping
from typing import Any

from absl import app, flags

CASE = flags.DEFINE_list("case", [], "Names of the cases to run; default: all.")
OUTPUT = flags.DEFINE_string(
    "output", "benchmarks/results", "Directory of the results; with --smoke nothing is written."
)
ROUNDS = flags.DEFINE_integer("rounds", 7, "Number of turns of each contender.", lower_bound=1)
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Dtype of activations and products.")
COMPILE = flags.DEFINE_bool("torch_compile", True, "Whether torch.compile is a contender.")
SMOKE = flags.DEFINE_bool("smoke", False, "Small and quick cases, to see whether the benchmark runs.")


def names(cases: Mapping[str, Any]) -> list[str]:
    """The cases that --case asks for.

    Args:
      cases: all cases by name.

    Returns:
      Names of the cases to run.

    Raises:
      UsageError: if a name is unknown.
    """
    from benchmarks import machine  # imported here so that --help need not import JAX

    try:
        return machine.chosen(CASE.value, cases)
    except ValueError as error:
        raise app.UsageError(str(error)) from None
