"""One picture of the user: its most probable classes, and a drawing of its score map."""

from typing import TYPE_CHECKING

from absl import app

from experiments.dense_evaluation import shared

if TYPE_CHECKING:
    from cnn.protocols.progress import Progress
    from cnn.runs.checkpoint import Run


def check() -> None:
    """Raises `absl.app.UsageError` for several strides, or an array as the image where no map is asked for."""
    if len(shared.STRIDE.value or []) > 1:
        raise app.UsageError(f"--image takes one --stride, got {shared.STRIDE.value}")
    if shared.is_map(shared.path(shared.IMAGE)) and not shared.is_map(shared.path(shared.OUTPUT)):
        raise app.UsageError(
            f"--image={shared.IMAGE.value} is an array, of which no picture is drawn; its map is written with "
            "--output=MAP.zarr"
        )


def stride() -> int | None:
    """The stride that --stride asks for, pixels; None: the net's native stride."""
    return shared.STRIDE.value[0] if shared.STRIDE.value else None


def evaluate(run: "Run", output: str, progress: "Progress") -> None:
    """Classifies the picture and draws its score map.

    Args:
      run: a trained net.
      output: directory to write to.
      progress: reports the stages of the work.
    """
    from cnn.reports import image_report

    scales = [int(scale) for scale in shared.SCALES.value]
    image_report.run_image(run, shared.path(shared.IMAGE), output, stride=stride(), scales=scales, progress=progress)
