"""One picture of any size, from file to file: its score map is computed tile by tile, and can be continued."""

from typing import TYPE_CHECKING

from absl import app, flags

from cnn.runtime import byte_sizes
from experiments.dense_evaluation import picture, shared

if TYPE_CHECKING:
    from cnn.protocols.progress import Progress
    from cnn.runs.checkpoint import Run

MEMORY = flags.DEFINE_string("memory", "2GB", "Image to map: memory for tiles and parameters.")
CONTEXT = flags.DEFINE_enum("context", None, ["crop", "image"], "Image to map: what padding a window sees.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Image to map: begin anew, and replace an existing map.")
FLAGS = (MEMORY, CONTEXT, OVERWRITE)


def asked() -> bool:
    """Whether the command line asks for a stream: a picture, and a map to write."""
    return bool(shared.IMAGE.value) and shared.is_map(shared.path(shared.OUTPUT))


def check() -> None:
    """Raises `absl.app.UsageError` if flags of a stream are set and no stream is asked for."""
    given = shared.given(FLAGS)
    if given and not asked():
        raise app.UsageError(f"{', '.join(given)} is for --image=FILE --output=MAP, MAP a .zarr or .npy")


def evaluate(run: "Run", output: str, progress: "Progress") -> None:
    """Streams the picture to the map.

    Args:
      run: a trained net.
      output: path of the map.
      progress: reports the stages of the work.
    """
    from cnn.reports import image_report

    image_report.run_stream(
        run,
        shared.path(shared.IMAGE),
        output,
        byte_sizes.parse_bytes(MEMORY.value),
        stride=picture.stride(),
        context=CONTEXT.value,
        overwrite=OVERWRITE.value,
        cover=shared.COVER.value,
        progress=progress,
    )
