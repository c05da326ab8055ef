"""Pictures that can only be decoded as a whole."""

from typing import Any

import numpy as np

from cnn.data import image_files
from cnn.dense.streaming.errors import StorageError


def open_picture(path: str, channels: int | None) -> Any:
    """Decodes a picture, upright and in 8 bits, as `cnn.data.image_files.decode` does for every command.

    Args:
      path: path of a file that Pillow reads.
      channels: 1 for grey, 3 for RGB; None: 1 for a grey picture, 3 for others.

    Returns:
      uint8 [H, W] or [H, W, 3].

    Raises:
      StorageError: if the file is no picture, is too large to be decoded, or the net takes other channels.
    """
    if channels is None:
        channels = 1 if image_files.is_grey(path) else 3
    if channels not in image_files.MODES:
        raise StorageError(
            f"{path}: a picture is read as 1 or 3 channels, the net takes {channels}; pass an array, or save it as .npy"
        )
    try:
        return np.asarray(image_files.decode(path, channels))
    except image_files.DataError as error:
        raise StorageError(f"{path}: cannot be read as a picture: {error.__cause__ or error}") from error
