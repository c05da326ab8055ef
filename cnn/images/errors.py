"""The errors of images, data and maps."""


class DataError(ValueError):
    """A data set that is missing, malformed or too large; the message says which, and what to do."""


class StorageError(DataError):
    """A source or sink that cannot be used; the message names it, the numbers, and what to do."""


class DamagedError(StorageError):
    """An image's file that contradicts itself: no other reader is tried, which would make something of it."""


# The way out where one part of a file is larger than what may be kept of it.
MORE_MEMORY = "give it more memory (a stream keeps an eighth of it, at most 256 MiB; open_image takes cache_bytes=)"
