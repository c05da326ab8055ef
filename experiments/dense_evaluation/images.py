"""Several images of any size: a map and a page for each, and one table of all."""

import sys
from typing import TYPE_CHECKING

from experiments.dense_evaluation import image_flags, shared

if TYPE_CHECKING:
    from cnn.protocols.progress import Progress
    from cnn.runs.checkpoint import Run


def evaluate(run: "Run", output: str, progress: "Progress") -> None:
    """Streams each image to its map; one that fails is named at the end and stops no other.

    Args:
      run: a trained net.
      output: directory of results.
      progress: reports the stages of the work.
    """
    from cnn.reports import dry_run, images_report

    asked = image_flags.asked()
    paths = images_report.find(shared.IMAGES.value or "")
    if image_flags.DRY_RUN.value:
        names = images_report.map_names(paths, image_flags.MAPS.value)
        text, failed = dry_run.texts(run, paths, [f"{output}/{name}" for name in names], asked, progress)
        print(text, flush=True)
    else:
        failed = len(images_report.run_images(run, paths, output, asked, image_flags.MAPS.value, progress))
    if failed:
        sys.exit(1)
