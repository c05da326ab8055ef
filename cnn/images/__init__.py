"""Images of any size in files of any kind: read region by region, in bounded memory, the same pixels for every command.

`open_image` opens a file or an array as a `Source`. Formats are in `files` (which format a file is), `tiff_arrays`,
`zarr_arrays` and `pictures`; `facts` has what a file says of its image beside the pixels; `ranges`, `channels` and
`masks` what a pixel means, and which count; `whole` reads what fits into memory.
"""

from cnn.images.errors import DataError, StorageError
from cnn.images.facts import Choice, Facts, Georeference, Spacing
from cnn.images.source import Source, open_image

__all__ = ["Choice", "DataError", "Facts", "Georeference", "Source", "Spacing", "StorageError", "open_image"]
