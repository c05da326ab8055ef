"""Flags that most benchmarks have; a command adopts them: `flags.adopt_module_key_flags(options)`."""

from absl import flags

CASE = flags.DEFINE_list("case", [], "Which; default: all.")
OUTPUT = flags.DEFINE_string("output", "benchmarks/results", "Where to write; with --smoke nothing is written there.")
ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns of each.", lower_bound=1)
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of activations and products.")
COMPILE = flags.DEFINE_bool("torch_compile", True, "Whether torch.compile takes part.")
SMOKE = flags.DEFINE_bool("smoke", False, "Small and quick: does it run?")
