"""One image of any size, from file to file: its map, computed tile by tile, and a page to look at."""

from typing import TYPE_CHECKING

from experiments.dense_evaluation import image_flags, shared

if TYPE_CHECKING:
    from cnn.protocols.progress import Progress
    from cnn.runs.checkpoint import Run


def evaluate(run: "Run", output: str, progress: "Progress") -> None:
    """Streams the image to its map, and says and draws what the map says.

    Args:
      run: a trained net.
      output: path of the map, or of a directory of results.
      progress: reports the stages of the work.
    """
    from cnn.reports import dry_run, image_report, streamed
    from cnn.runtime import processes

    path, asked = shared.path(shared.IMAGE), image_flags.asked()
    if not processes.is_first():  # it takes part in the map; the first process looks at it
        sink = output if shared.is_map(output) else image_report.map_path(path, output)
        streamed.stream(run, streamed.open_source(run, path, asked), sink, asked, None)
    elif image_flags.DRY_RUN.value:
        sink = output if shared.is_map(output) else image_report.map_path(path, output)
        print(dry_run.text(run, path, sink, asked, progress), flush=True)
    elif shared.is_map(output):
        image_report.run_map(run, path, output, asked, progress)
    else:
        image_report.run_image(run, path, output, asked=asked, progress=progress)
