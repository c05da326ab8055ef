"""The dtypes of arrays of other libraries."""

from typing import Any

import numpy as np

from cnn.images.errors import StorageError


def numpy_dtype(array: Any, name: str) -> np.dtype:
    """The dtype of an array of any library, as a NumPy dtype.

    Args:
      array: an object with .dtype.
      name: name of the array, for the error message.

    Returns:
      The NumPy dtype.

    Raises:
      StorageError: if NumPy has no such dtype.
    """
    try:
        return np.dtype(getattr(array.dtype, "numpy_dtype", array.dtype))  # TensorStore has its own dtypes
    except TypeError:
        raise StorageError(f"{name}: dtype {array.dtype} is not NumPy's; pass numpy.asarray(array)") from None
