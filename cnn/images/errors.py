"""The errors of images, data and maps."""


class DataError(ValueError):
    """A data set that is missing, malformed or too large; the message says which, and what to do."""


class StorageError(DataError):
    """A source or sink that cannot be used; the message names it, the numbers, and what to do."""
