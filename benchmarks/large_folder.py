"""Training on a folder that does not fit into memory: `python -m benchmarks.large_folder`; see README.md.

Writes a folder of JPEGs, trains on it for an epoch, trains again and is killed and started again on the way, reads the
same batches by one, two and four processes, and times a bare loop over Pillow beside it. Writes large_folder.json and
large_folder.md. Pictures stay in their files, as their pixels would take more than `data.in_memory=auto` allows.
"""

import os
import tempfile
from typing import Any

from absl import app, flags

from benchmarks import options
from cnn.commands import program

flags.adopt_module_key_flags(options)
PICTURES = flags.DEFINE_integer("pictures", 60_000, "Number of JPEGs to train on.", lower_bound=64)
SIDE = flags.DEFINE_integer("side", 256, "Height and width of a JPEG and of an image, pixels.", lower_bound=32)
BATCH = flags.DEFINE_integer("batch", 64, "Images in a step.", lower_bound=4)
PROCESSES = (1, 2, 4)  # numbers of processes that read the same batches


def main() -> None:
    """Makes the pictures, runs everything, writes the results and prints them."""
    from benchmarks import large_folder_runs as runs
    from benchmarks import machine

    few = options.SMOKE.value
    count, side, batch = (512, 32, 16) if few else (PICTURES.value, SIDE.value, BATCH.value)
    steps = count // batch
    if steps < 30 or batch % max(PROCESSES):
        raise app.UsageError(f"--pictures={count} must be 30 batches or more, of a multiple of {max(PROCESSES)} images")
    results: dict[str, Any] = {"pictures": count, "side": side, "batch": batch, "load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        runs.write_folder(f"{folder}/pictures", count, side)
        results["bytes"] = runs.size(f"{folder}/pictures/train")
        command = runs.command(folder, steps, batch, side, "no" if few else "auto")
        bare = [runs.bare_rate(f"{folder}/pictures/train", side, batch, few)]
        whole = runs.train([*command, f"--workdir={folder}/whole"])
        runs.check_streamed(whole.said)
        bare += [runs.bare_rate(f"{folder}/pictures/train", side, batch, few)]
        killed_at = runs.kill([*command, f"--workdir={folder}/killed"], f"{folder}/killed", steps // 2)
        again = runs.train([*command, f"--workdir={folder}/killed"])
        bare += [runs.bare_rate(f"{folder}/pictures/train", side, batch, few)]
        results["bare_pictures_per_second"] = bare
        results["training"] = {
            "pictures_per_second": runs.rate(f"{folder}/whole", steps // 4),
            "seconds": whole.seconds,
            "peak_resident_bytes": [whole.peak_bytes, again.peak_bytes],
            "steps": steps,
            "killed_at_step": killed_at,
            "went_on_from_step": runs.went_on_from(again.said),
            "equal_parameters": runs.equal_parameters(f"{folder}/whole", f"{folder}/killed"),
        }
        few_steps = min(steps, 24)
        seen = {n: runs.batches_of(n, f"{folder}/pictures", side, batch, few_steps) for n in PROCESSES}
        results["batches"] = {
            "steps": few_steps,
            "pictures": len(seen[1]),
            "equal": {str(n): found == seen[1] for n, found in seen.items()},
        }
    results |= machine.last_facts()
    table = runs.text(results)
    print(table)
    runs.check(results)
    if not few:
        machine.write(options.OUTPUT.value, "large_folder", results, table)


if __name__ == "__main__":
    program.start(main, "--pictures=60000")
