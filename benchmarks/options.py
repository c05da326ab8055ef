"""Flags that most benchmarks have; a command adopts them: `flags.adopt_module_key_flags(options)`."""

from collections.abc import Mapping
from typing import Any

from absl import app, flags

CASE = flags.DEFINE_list("case", [], "Which; default: all.")
OUTPUT = flags.DEFINE_string("output", "benchmarks/results", "Where to write; with --smoke nothing is written there.")
ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns of each.", lower_bound=1)
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of activations and products.")
COMPILE = flags.DEFINE_bool("torch_compile", True, "Whether torch.compile takes part.")
SMOKE = flags.DEFINE_bool("smoke", False, "Small and quick: does it run?")


def names(cases: Mapping[str, Any]) -> list[str]:
    """The cases that --case asks for.

    Args:
      cases: all, by name.

    Returns:
      Names.

    Raises:
      UsageError: if one is unknown.
    """
    from benchmarks import machine  # here, so that --help need not import JAX

    try:
        return machine.chosen(CASE.value, cases)
    except ValueError as error:
        raise app.UsageError(str(error)) from None
