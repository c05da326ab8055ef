"""Pictures a second while training on files: `python -m benchmarks.input`; see README.md.

Writes a folder of JPEGs, decodes and cuts them by a bare loop over Pillow, by grain, by PyTorch's DataLoader and by
this project's feed, in turn, and notes the memory of the feed on sets of several sizes. Writes input.json and input.md.
"""

import os
import tempfile
from typing import Any

from absl import flags

from benchmarks import options
from cnn.commands import program

flags.adopt_module_key_flags(options)
PICTURES = flags.DEFINE_integer("pictures", 4000, "Number of JPEGs.", lower_bound=64)
SIDE = flags.DEFINE_integer("side", 256, "Height and width of a JPEG, pixels.", lower_bound=16)
SIZE = flags.DEFINE_integer("size", 224, "Height and width of the images that are made of them, pixels.", lower_bound=8)
BATCH = flags.DEFINE_integer("batch", 64, "Images in a batch.", lower_bound=1)
TIMES = (1, 4, 16)  # sets whose memory is noted, by the number of times that the folder is in them


def main() -> None:
    """Makes the pictures, times the contenders, writes the results and prints them."""
    from benchmarks import input_contenders, machine, timing

    count, rounds = (128, 1) if options.SMOKE.value else (PICTURES.value, options.ROUNDS.value)
    results: dict[str, Any] = {
        "pictures": count,
        "side": SIDE.value,
        "size": SIZE.value,
        "batch": BATCH.value,
        "load_before": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = input_contenders.write_pictures(folder, count, SIDE.value)
        results["bytes"] = sum(os.path.getsize(path) for path in paths)
        contenders = input_contenders.contenders(paths, SIZE.value, BATCH.value)
        input_contenders.check_same(contenders)
        whole = {name: lambda made=made: input_contenders.take_all(made()) for name, made in contenders.items()}
        first = {name: lambda made=made: next(iter(made())) for name, made in contenders.items()}
        results["seconds"] = timing.alternate(whole, rounds)
        results["seconds_to_first_batch"] = timing.alternate(first, rounds)
        results["resident_bytes"] = input_contenders.memory(paths, SIZE.value, BATCH.value, TIMES)
    results |= machine.last_facts()
    table = input_contenders.text(results)
    print(table)
    if not options.SMOKE.value:
        machine.write(options.OUTPUT.value, "input", results, table)


if __name__ == "__main__":
    program.start(main, "--pictures=4000")
