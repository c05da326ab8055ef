"""The error of streams."""

from cnn.data.image_files import DataError

ANEW = "overwrite=True (--overwrite) begins anew"  # the way out of a map that cannot be continued


class StorageError(DataError):
    """A source or sink that cannot be used; the message names it, the numbers, and what to do."""
