"""One of several processes that note the pixels of a run's batches, as `benchmarks.large_folder` asks.

COORDINATOR PROCESSES INDEX FOLDER SIDE BATCH STEPS OUTPUT
"""

import hashlib
import json
import sys

import numpy as np

from cnn import data
from cnn.runtime import processes
from cnn.runtime.devices import Devices
from cnn.training import feed


def main() -> None:
    """Reads the batches and writes "STEP PLACE" -> digest of the image, of those that this process's device takes."""
    coordinator, count, index, folder, side, batch, steps, output = sys.argv[1:]
    if count != "1":
        processes.start(coordinator, int(count), int(index))
    dataset = data.load(
        "folder",
        dir=folder,
        image_size=int(side),
        validation_fraction=0,
        in_memory="no",
        share=processes.share(),
    )
    found: dict[str, str] = {}
    made = feed.batches(dataset.train, 0, int(batch), Devices(), first=0, total=int(steps))
    for step, (images, _) in enumerate(made):
        for shard in images.addressable_shards:
            first = shard.index[0].start or 0
            for place, image in enumerate(np.asarray(shard.data), first):
                found[f"{step} {place}"] = hashlib.sha256(image.tobytes()).hexdigest()
    with open(output, "w") as file:
        json.dump(found, file)
    processes.barrier("batches")


if __name__ == "__main__":
    main()
