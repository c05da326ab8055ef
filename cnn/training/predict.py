"""Classes and probabilities of the user's own pictures, and the files that predictions are written to."""

import glob
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn import data
from cnn.data import DataError
from cnn.data.class_folders import EXTENSIONS
from cnn.images import paths
from cnn.nets import outputs
from cnn.runs import logs
from cnn.runs.checkpoint import Run, all_names
from cnn.training import evaluate

BORDER_MARGIN = 0.25  # brightness by which a picture's border may lie outside of what the training images' borders have
OUTPUTS = (".csv", ".json")


class Prediction(NamedTuple):
    """A net's answer for one picture.

    Attributes:
      path: path of the picture.
      class_name: name of the most probable class.
      probability: probability of that class, by the net's output activation (`cnn.nets.outputs`).
      probabilities: probabilities of all classes, float32 [K].
      class_names: names of all classes.
      border: brightness of the picture's border (`border_brightness`).
    """

    path: str
    class_name: str
    probability: float
    probabilities: np.ndarray
    class_names: Sequence[str]
    border: float

    def top(self, count: int) -> list[tuple[str, float]]:
        """The `count` most probable classes with their probabilities, best first; fewer if there are fewer."""
        best = [int(k) for k in np.argsort(-self.probabilities, kind="stable")[:count]]
        return [(self.class_names[i], float(self.probabilities[i])) for i in best]


def find_pictures(names: Sequence[str]) -> list[str]:
    """Files that a command line names.

    Args:
      names: each a file, a folder (all pictures in it and in its folders by the suffixes that training reads, sorted
        by path, but for hidden ones; a line says what else lies there), a pattern such as "scans/*.png", or several of
        these separated by commas. A folder that a pattern fits stands for the pictures in it, too. A file whose own
        name has commas is found first.

    Returns:
      Paths.

    Raises:
      DataError: if a name stands for no file, or none is named; says which.
    """
    paths = []
    for name in names:
        parts = name.split(",")
        while parts:
            # The longest run of parts that is a name: "a,b.png" where there is such a file, else "a".
            runs = (",".join(parts[:length]) for length in range(len(parts), 0, -1))
            length, files = next(((run.count(",") + 1, files) for run in runs if (files := _files(run))), (1, []))
            if not files and parts[0]:
                raise DataError(f"--images: there is no picture {parts[0]!r}; name files, folders or patterns")
            paths += files
            parts = parts[length:]
    if not paths:
        raise DataError(f"--images={','.join(names)} names no picture; name files, folders or patterns: --images=a.png")
    return paths


def _files(name: str) -> list[str]:
    """Files that one name stands for; none if there are none."""
    if not name:
        return []
    name = os.path.expanduser(name)
    named = [name] if os.path.exists(name) else sorted(glob.glob(name, recursive=True))
    files = [path for one in named for path in (_in_folder(one) if _is_folder(one) else [one])]
    return list(dict.fromkeys(files))  # a pattern with ** fits a folder and what is in it


def _is_folder(path: str) -> bool:
    """Whether a path is a folder of files, and no zarr, which is one image."""
    return os.path.isdir(path) and paths.zarr_metadata(path) is None


def _in_folder(folder: str) -> list[str]:
    """All pictures in a folder and in its folders, sorted; a line says what else lies there that is not hidden."""
    found = []
    for place, folders, files in os.walk(folder):
        found += [os.path.join(place, name) for name in files if not name.startswith(".")]
        inside = [name for name in folders if not name.startswith(".")]
        folders[:] = [name for name in inside if _is_folder(os.path.join(place, name))]
        found += [os.path.join(place, name) for name in inside if name not in folders]
    pictures = sorted(path for path in found if path.lower().endswith(EXTENSIONS))
    others = [os.path.relpath(path, folder) for path in sorted(set(found) - set(pictures))]
    paths.say_left_out(folder, others, f"are not {', '.join(EXTENSIONS)}; name them, or a pattern")
    return pictures


def border_brightness(images: np.ndarray) -> np.ndarray:
    """Mean brightness of the outermost pixels of each image.

    Args:
      images: uint8 [N, H, W, C], or float32 fractions.

    Returns:
      float64 [N], in units of the full range: 0 is black, 1 is white.
    """
    edges = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    mean = np.concatenate([edge.reshape(len(images), -1) for edge in edges], axis=1).mean(axis=1, dtype=np.float64)
    return mean / 255 if images.dtype == np.uint8 else mean


def predict(run: Run, paths: Sequence[str]) -> list[Prediction]:
    """Classifies pictures: shortest side resized to the net's window, centre-cropped, normalised as in training.

    Pixels are those that a stream reads (`cnn.images.source.open_image`), by the run's range and channels: pictures of
    more than 8 bits are resized as fractions of the range, which training, on 8 bits, has rounded.

    Args:
      run: a trained net (`cnn.runs.checkpoint.load_run`).
      paths: PNG or JPEG files of any size, with the polarity of the training images (digits and MNIST: bright strokes
        on black).

    Returns:
      One `Prediction` for each path.

    Raises:
      DataError: if a file cannot be read.
      FloatingPointError: if the scores of a picture are not finite.
    """
    predictions, unread = predict_readable(run, paths)
    if unread:
        raise unread[0]
    return predictions


def predict_readable(run: Run, paths: Sequence[str]) -> tuple[list[Prediction], list[DataError]]:
    """Classifies those of some pictures that can be read; see `predict`.

    Args:
      run: a trained net (`cnn.runs.checkpoint.load_run`).
      paths: the files.

    Returns:
      One `Prediction` for each picture that can be read, and the error of each other one, which names its file.

    Raises:
      FloatingPointError: if the scores of a picture are not finite.
    """
    if isinstance(paths, str):
        raise DataError(f"paths (={paths!r}) must be a list of paths, not one text: [{paths!r}]")
    predictions: list[Prediction] = []
    unread: list[DataError] = []
    size = max(1, min(len(paths), run.config.eval.batch_size))
    options: Any = {"chosen": run.channels, "value_range": run.value_range}
    for indices, count in data.batches(len(paths), size):
        some, images = [], []
        for i in indices[:count]:
            try:
                image = data.load_image(paths[int(i)], run.image_shape[:2], run.image_shape[2], **options)
                if np.isnan(image).any():
                    raise DataError(f"{paths[int(i)]}: it has pixels that are NaN, whose classes are none")
                images.append(image)
                some.append(paths[int(i)])
            except DataError as error:
                unread.append(error)
        if some:
            predictions += _classify(run, some, images, size)
    return predictions, unread


def _classify(run: Run, paths: Sequence[str], images: Sequence[np.ndarray], size: int) -> list[Prediction]:
    """Predictions of at most `size` pictures [H, W, C], uint8 or float32, by programs compiled for that many."""
    probabilities, borders = np.empty((len(images), 0), np.float32), np.empty(len(images))
    for dtype in (np.uint8, np.float32):  # a program for each: bytes are normalised as in training
        alike = [i for i, image in enumerate(images) if image.dtype == dtype]
        if alike:
            stacked = np.stack([images[i] for i in alike])
            borders[alike] = border_brightness(stacked)
            filled = stacked[np.minimum(np.arange(size), len(alike) - 1)]
            scores = evaluate.logits(run.net, run.variables, filled, run.mean, run.std)
            rows = np.asarray(outputs.probabilities(scores, run.net.output_activation))[: len(alike)]
            if not probabilities.size:
                probabilities = np.empty((len(images), rows.shape[1]), rows.dtype)
            probabilities[alike] = rows
    names = all_names(run.class_names, probabilities.shape[1])
    predictions = []
    for path, row, border in zip(paths, probabilities, borders.tolist(), strict=True):
        if np.isnan(row).any():
            raise FloatingPointError(
                f"{path}: the net's scores are not finite, so that no class is the most probable; its training at "
                f"step {run.step} had diverged, or the picture has pixels that are NaN: train again with a lower "
                "train.learning_rate, or leave the picture out"
            )
        best = int(row.argmax())
        predictions.append(Prediction(path, names[best], float(row[best]), row, names, border))
    return predictions


def polarity_warning(run: Run, predictions: Sequence[Prediction]) -> str | None:
    """Says which pictures look inverted beside the training images: dark on bright instead of bright on dark.

    A picture counts if the brightness of its border lies outside that of nearly all training images by more than
    `BORDER_MARGIN`. Photographs have borders of every brightness, and are never warned of.

    Args:
      run: the trained net; runs that were saved before data.json held the borders' brightness give no warning.
      predictions: predictions, as `predict` gives them.

    Returns:
      One line; None if nothing is to be said.
    """
    if run.border_brightness is None:
        return None
    low, high = run.border_brightness
    odd = [p for p in predictions if not low - BORDER_MARGIN <= p.border <= high + BORDER_MARGIN]
    if not odd:
        return None
    which = odd[0].path if len(odd) == 1 else f"{odd[0].path} and {len(odd) - 1} more"
    return (
        f"warning: {which}: the border has a brightness of {odd[0].border:.2f} (0: black, 1: white), that of the "
        f"training images {low:.2f} to {high:.2f}; if the picture shows dark on bright where they show bright on dark, "
        f"or the reverse, invert it"
    )


def how_pictures_are_seen(run: Run) -> str:
    """One line on what of a picture is classified, and why a dense run can answer otherwise.

    Args:
      run: the trained net.

    Returns:
      The line.
    """
    height, width, _ = run.image_shape
    return (
        f"Each picture was resized until it just covers {height}x{width} pixels, and its centre classified; "
        f"experiments.dense_eval leaves the picture's size and looks at every {height}x{width} window, and may answer "
        f"otherwise."
    )


def write_predictions(path: str, predictions: Sequence[Prediction], top: int) -> None:
    """Writes predictions to a file.

    Args:
      path: path of the file. One that ends in .csv gets a row for each picture: path, class, probability, then class_2,
        probability_2 and so on; one that ends in .json a list of {"path", "classes": [{"class", "probability"}]}, best
        class first.
      predictions: predictions, as `predict` gives them.
      top: classes for each picture.

    Raises:
      ValueError: if the file's name ends otherwise.
    """
    check_output(path)
    if path.lower().endswith(".json"):
        rows = [
            {
                "path": paths.printable(p.path),
                "classes": [{"class": name, "probability": value} for name, value in p.top(top)],
            }
            for p in predictions
        ]
        logs.write_json(path, rows)
        return
    most = max((len(p.top(top)) for p in predictions), default=1)
    numbered = ["" if place == 1 else f"_{place}" for place in range(1, most + 1)]
    header = ["path", *(f"{column}{number}" for number in numbered for column in ("class", "probability"))]
    rows = [
        [paths.printable(p.path), *(cell for name, value in p.top(top) for cell in (name, f"{value:.6g}"))]
        for p in predictions
    ]
    logs.write_csv(path, header, rows)


def write_test_predictions(
    path: str, labels: np.ndarray, metrics: evaluate.Metrics, class_names: Sequence[str]
) -> None:
    """Writes what a net made of each example of a split: a row with index, label, prediction and probability.

    Args:
      path: path of the .csv file.
      labels: the split's labels, int32 [N]; a row's index is the example's place among them, from 0.
      metrics: what the net made of the split. An example with a NaN among its scores has neither prediction nor
        probability, and empty cells.
      class_names: names of all classes.
    """
    rows = []
    for i, (label, k, value) in enumerate(zip(labels, metrics.predictions, metrics.probabilities, strict=True)):
        answer = [class_names[k], f"{value:.6g}"] if k >= 0 else ["", ""]
        rows.append([i, class_names[label], *answer])
    logs.write_csv(path, ["index", "label", "prediction", "probability"], rows)


def check_output(path: str) -> None:
    """Raises for a file of predictions that would be neither a table nor JSON, or that cannot be written.

    Args:
      path: path of the file that predictions are to be written to.

    Raises:
      ValueError: if it ends in neither .csv nor .json, is a folder, or its folder is missing or cannot be written to.
    """
    if not path.lower().endswith(OUTPUTS):
        raise ValueError(f"--output={path}: predictions are written to a .csv or a .json file")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise ValueError(f"--output={path}: there is no folder {folder}; make it, or name another")
    if os.path.isdir(path) or not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise ValueError(f"--output={path} cannot be written; name another file")
