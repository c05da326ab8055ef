"""Dense evaluation on larger scenes that are made from a split of the run's data."""

from typing import TYPE_CHECKING

from absl import flags

from experiments.dense_evaluation import shared

if TYPE_CHECKING:
    from cnn.protocols.progress import Progress
    from cnn.runs.checkpoint import Run

SIZE_IN_WINDOWS = 2.5  # default height and width of a scene, in windows

SCENES = flags.DEFINE_integer("scenes", 1000, "Scenes: how many.", lower_bound=1)
SIZE = flags.DEFINE_integer(
    "size", None, "Scenes: height and width, pixels; default: 2.5 times the window, 80 for 32.", lower_bound=1
)
SEED = flags.DEFINE_integer("seed", 0, "Scenes: seed of everything random.", lower_bound=0, upper_bound=2**32 - 1)
FLAGS = (SCENES, SIZE, SEED)


def evaluate(run: "Run", output: str, progress: "Progress") -> None:
    """Makes scenes, classifies them by every method, and writes the results.

    Args:
      run: a trained net.
      output: directory to write to.
      progress: reports the stages of the work.
    """
    from cnn.reports import scenes_report

    scenes_report.run_scenes(
        run,
        scenes_report.load_split(run, shared.SPLIT.value),
        output,
        scenes=SCENES.value,
        size=SIZE.value or round(SIZE_IN_WINDOWS * max(run.image_shape[:2])),
        seed=SEED.value,
        strides=shared.STRIDE.value,
        batch_size=shared.BATCH_SIZE.value,
        timing_images=shared.TIMING_IMAGES.value,
        split_name=shared.SPLIT.value,
        progress=progress,
    )
