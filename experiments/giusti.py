"""Giusti et al.'s table: every pixel's class by patches and by fragments: `python -m experiments.giusti`.

Counts operations layer by layer beside the paper's (see `experiments.giusti_table` for what is counted), times every
pixel of a 512x512 image, and checks a sample of pixels against crops. Writes result.json and table.md to --output.
"""

import os

from absl import app, flags, logging

from cnn import nets
from cnn.runs import logs
from cnn.runtime import process
from experiments import giusti_table

OUTPUT = flags.DEFINE_string("output", "experiments/results/giusti", "Where to write.")
SIZE = flags.DEFINE_integer("size", 512, "Height and width of the image, pixels; the paper's figures are for 512.")
RUNS = flags.DEFINE_integer("runs", 7, "Timed runs, after one that compiles.", lower_bound=5)
SAMPLES = flags.DEFINE_integer("samples", 200, "Pixels that are compared with their crops.", lower_bound=1)
BACKEND = flags.DEFINE_string("backend", "mpf", "Of dense.score_map.")
SEED = flags.DEFINE_integer("seed", 0, "Of the weights, the image and the sample.")


def main(argv: list[str]) -> None:
    """Counts, measures, writes and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; flags look like --size=512")
    process.keep_memory()
    logging.set_verbosity(logging.WARNING)
    found = giusti_table.costs(nets.create("giusti_n4"), giusti_table.WINDOW, SIZE.value)
    measured = giusti_table.measure(SIZE.value, RUNS.value, SAMPLES.value, BACKEND.value, SEED.value)
    layers = [cost._asdict() for cost in found]
    result = {"size": SIZE.value, "backend": BACKEND.value, "seed": SEED.value, "flop": layers, **measured}
    result.update(logs.environment())
    os.makedirs(OUTPUT.value, exist_ok=True)
    logs.write_json(os.path.join(OUTPUT.value, "result.json"), result)
    table = giusti_table.text(found, result)
    with open(os.path.join(OUTPUT.value, "table.md"), "w") as file:
        file.write(table)
    print(table)


if __name__ == "__main__":
    app.run(main)
