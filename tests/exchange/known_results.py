"""What tests of real nets share: where they are, and the test split alone of the sets that they are judged on."""

import pathlib

import jax
import numpy as np
import pytest

from cnn import data, dense


def pretrained(tfds_data_dir: pathlib.Path, name: str) -> pathlib.Path:
    """Folder of a real net, which lies beside the sets of TFDS_DATA_DIR; skips the test where there is none."""
    folder = tfds_data_dir.parent / "pretrained" / name
    if not folder.is_dir():
        pytest.skip(f"reads a real net, which is not in {folder}")
    return folder


def test_split(tfds_data_dir: pathlib.Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images and labels of a set's test split; reading all splits takes six times as long."""
    if not (tfds_data_dir / name).is_dir():
        pytest.skip(f"{name} is not prepared in TFDS_DATA_DIR ({tfds_data_dir})")
    import tensorflow_datasets as tfds

    files = {"file_format": "array_record"}
    source = tfds.data_source(name, split="test", data_dir=str(tfds_data_dir), download=False, builder_kwargs=files)
    records = source.__getitems__(list(range(len(source))))
    return np.stack([record["image"] for record in records]), np.array([record["label"] for record in records])


test_split.__test__ = False  # a name of pytest's


def right(classifier, images: np.ndarray, labels: np.ndarray) -> int:
    """Number of images that a net classifies rightly."""

    @jax.jit
    def classes(variables, block):
        pixels = data.normalise(block, classifier.mean, classifier.std)
        return classifier.net.apply(variables, pixels, train=False).argmax(-1)

    blocks = [np.asarray(classes(classifier.variables, images[i : i + 1000])) for i in range(0, len(images), 1000)]
    return int((np.concatenate(blocks) == labels).sum())


def check_maps(classifier, images: np.ndarray, stride: int) -> None:
    """Asserts that a dense map of larger images equals the scores of its crops; of a padded net, that of another pass.

    A crop of a padded net sees padding where the dense pass sees pixels: those are two measurements.
    """
    height, width, channels = classifier.image_shape
    first = "shift" if dense.has_padding(classifier.net, (height, width), channels) else "crops"
    larger = data.normalise(
        np.tile(images[:2], (1, 2, 2, 1))[:, : height + 3 * stride, : width + 2 * stride],
        classifier.mean,
        classifier.std,
    )
    window = (height, width)
    maps = [
        np.asarray(
            dense.score_map(
                classifier.net, classifier.variables, larger, window=window, stride=stride, backend=backend
            ).scores
        )
        for backend in (first, "atrous")
    ]
    np.testing.assert_allclose(maps[1], maps[0], atol=1e-5 * float(np.abs(maps[0]).max()))
