"""Digits found on whole pages: `python -m experiments.pages --workdir=DIR`.

DIR holds a net of configs/pages.py, which tells ten digits from what is none. It is run densely over pages of 2,000 x
2,000 pixels of uneven, noisy paper, each with 100 digits of MNIST's test split at known places and 50 strokes that are
none. The threshold is chosen on other pages, of digits held out from training, by the best F1. A detection is right if
a digit of its class lies within 8 pixels of its centre; each digit counts once. Writes result.json and summary.md to
--output; the results of other nets that are there already are kept, so that the table has one column for each seed.
"""

import json
import os
from typing import Any

from absl import app, flags

from cnn.commands import flags as shared
from cnn.commands import program

WORKDIR = shared.define_workdir("Workdir of the trained net.")
OUTPUT = flags.DEFINE_string("output", os.path.join("runs", "found_on_pages"), "Folder of the results.")
PAGES = flags.DEFINE_integer("pages", 200, "Number of pages that are measured.", lower_bound=1)
CHOOSING = flags.DEFINE_integer("choosing", 40, "Number of pages that the threshold is chosen on.", lower_bound=1)
COMPARED = flags.DEFINE_integer("compared", 20, "Number of pages run in tiles and as a whole, too.", lower_bound=0)
STRIDE = flags.DEFINE_integer("stride", 4, "Distance between windows, pixels.", lower_bound=1)
OVERLAP = flags.DEFINE_float("overlap", 0.1, "Largest overlap of two detections: digits do not overlap.", 0, 1)
DATA_DIR = flags.DEFINE_string("data_dir", "", "Folder of the TFDS sets; by default $TFDS_DATA_DIR.")


def main() -> None:
    """Measures a net, writes the results and prints them."""
    if not WORKDIR.value:
        raise app.UsageError("--workdir=DIR is missing: the directory of a net of configs/pages.py")

    # Imported here so that --help and errors in flags respond at once.
    from cnn import checkpoint, data
    from cnn.runs import logs
    from cnn.runtime import process
    from experiments.digit_pages import measure, summary

    process.keep_memory()
    run = checkpoint.load_run(WORKDIR.value)
    digits = data.load("mnist", dir=DATA_DIR.value)
    with open(os.path.join(WORKDIR.value, "result.json")) as file:
        trained = json.load(file)
    found = measure.measure(
        run,
        digits.validation,
        digits.test,
        choosing=CHOOSING.value,
        count=PAGES.value,
        compared=COMPARED.value,
        stride=STRIDE.value,
        overlap=OVERLAP.value,
    )
    result = {
        "seed": int(run.config.seed),
        "accuracy_of_crops": trained["test_accuracy"],
        "training_seconds": trained["seconds"],
        "stride": STRIDE.value,
        "overlap": OVERLAP.value,
        **found,
        **logs.environment(),
    }
    os.makedirs(OUTPUT.value, exist_ok=True)
    path = os.path.join(OUTPUT.value, "result.json")
    others = [each for each in _earlier(path) if each["seed"] != result["seed"]]
    nets = sorted([*others, result], key=lambda each: each["seed"])
    logs.write_json(path, {"nets": nets})
    text = summary.text(nets)
    with open(os.path.join(OUTPUT.value, "summary.md"), "w") as file:
        file.write(text)
    print(f"{text}\nwrote {OUTPUT.value}")


def _earlier(path: str) -> list[dict[str, Any]]:
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return json.load(file)["nets"]


if __name__ == "__main__":
    program.start(main, "--workdir=runs/pages")
