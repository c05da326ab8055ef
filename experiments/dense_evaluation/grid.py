"""The VGG paper's test protocol on whole pictures: scales, crops, dense runs, mirror images and averages."""

from typing import TYPE_CHECKING

from absl import app, flags

from experiments.dense_evaluation import shared

if TYPE_CHECKING:
    from cnn.protocols.progress import Progress
    from cnn.runs.checkpoint import Run

DATA = flags.DEFINE_string(
    "data", None, "Grid: a data set or a folder <class>/*.jpg; default: what the run was trained on."
)
FLIP = flags.DEFINE_bool("flip", False, "Grid: add rows that average over mirrored pictures too.")
MULTICROP = flags.DEFINE_integer("multicrop", 5, "Grid: regular crops along each axis.", lower_bound=1)
AVERAGING = flags.DEFINE_list("averaging", ["probabilities"], "Grid: any of probabilities, logits, max.")
MAX_SIZES = flags.DEFINE_integer("max_sizes", 100, "Grid: most sizes that a padded net is compiled for.", lower_bound=1)
FLAGS = (DATA, FLIP, MULTICROP, AVERAGING, MAX_SIZES)


def check() -> None:
    """Raises `absl.app.UsageError` if a scale, or the number of pictures of a grid, is not a whole number."""
    if shared.PROTOCOL.value == "grid" and shared.IMAGES.value and not _count():
        raise app.UsageError(f"--images={shared.IMAGES.value}: with --protocol=grid a number of pictures, at least 1")
    if not all(scale.isdecimal() for scale in shared.SCALES.value):
        raise app.UsageError(
            f"--scales={','.join(shared.SCALES.value)} must be whole numbers of pixels, such as 256,384,512"
        )


def _count() -> int | None:
    """The number of pictures that --images asks for; None: all."""
    text = shared.IMAGES.value or ""
    return int(text) if text.isdecimal() and int(text) else None


def evaluate(run: "Run", output: str, progress: "Progress") -> None:
    """Classifies pictures by every cell of the grid, and writes the results.

    Args:
      run: a trained net.
      output: directory to write to.
      progress: reports the stages of the work.
    """
    from cnn.protocols import labelled_images, vgg_options
    from cnn.reports import vgg_report

    options = vgg_options.Options(
        scales=tuple(map(int, shared.SCALES.value)),
        flip=FLIP.value,
        multicrop=MULTICROP.value,
        strides=tuple(shared.STRIDE.value or ()),
        averages=tuple(AVERAGING.value),
        batch_size=shared.BATCH_SIZE.value,
        timing_images=shared.TIMING_IMAGES.value,
        max_sizes=MAX_SIZES.value,
    )
    progress.stage("reading the pictures' sizes")
    tested = labelled_images.load(run, DATA.value, shared.SPLIT.value)
    vgg_report.run_grid(run, tested, output, options, limit=_count(), progress=progress)
