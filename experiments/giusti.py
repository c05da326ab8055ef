"""The table of Giusti et al., a class for every pixel by patches and by fragments: `python -m experiments.giusti`.

Counts the operations of each layer beside the paper's (`experiments.giusti_table` says what is counted), times the
classification of every pixel of a 512x512 image, and compares the scores of some pixels with crops. Writes result.json
and table.md to --output.
"""

import os

from absl import flags

from cnn.commands import program

OUTPUT = flags.DEFINE_string("output", os.path.join("runs", "giusti"), "Folder of the table.")
SIZE = flags.DEFINE_integer(
    "size", 512, "Height and width of the image, pixels; the paper's figures are for 512.", 1, 16_384
)
RUNS = flags.DEFINE_integer("runs", 7, "Number of timed runs, after one that compiles.", lower_bound=5)
SAMPLES = flags.DEFINE_integer("samples", 200, "Number of pixels that are compared with their crops.", lower_bound=1)
BACKEND = flags.DEFINE_enum("backend", "mpf", ["auto", "shift", "atrous", "mpf"], "Backend of dense.score_map.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of the weights, the image and the sample.", 0, 2**32 - 1)


def main() -> None:
    """Counts and measures, writes the results and prints them."""
    # Imported here so that --help and errors in flags respond at once.
    from cnn import nets
    from cnn.runs import logs
    from cnn.runtime import process
    from experiments import giusti_table

    process.keep_memory()
    found = giusti_table.operations(nets.create("giusti_n4"), giusti_table.WINDOW, SIZE.value)
    measured = giusti_table.measure(SIZE.value, RUNS.value, SAMPLES.value, BACKEND.value, SEED.value)
    layers = [cost._asdict() for cost in found]
    result = {"size": SIZE.value, "backend": BACKEND.value, "seed": SEED.value, "flop": layers, **measured}
    result.update(logs.environment())
    os.makedirs(OUTPUT.value, exist_ok=True)
    logs.write_json(os.path.join(OUTPUT.value, "result.json"), result)
    table = giusti_table.text(found, result)
    with open(os.path.join(OUTPUT.value, "table.md"), "w") as file:
        file.write(table)
    print(f"{table}\nwrote {OUTPUT.value}")


if __name__ == "__main__":
    program.start(main, "--size=512")
