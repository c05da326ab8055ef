"""Images of any size in files of any kind: read region by region, in bounded memory, the same pixels for every command.

`open_image` opens a file or an array as a `Source`. `files` says which format a file is; formats are in `tiff_arrays`,
`ome_zarr` and `zarr_arrays`, `hdf5`, `slides`, `rasters` and `pictures`. `facts` has what a file says of its image
beside the pixels; `axes` makes images of arrays of any number of axes, and `resampled` reads an image at another
resolution and `resizing` to another shape; `ranges`, `channels` and `masks` say what a pixel means, and which count;
`whole` reads what fits into memory.
"""

from cnn.images.errors import DataError, StorageError
from cnn.images.facts import Choice, Facts, Georeference, Spacing
from cnn.images.source import Source, open_image

__all__ = ["Choice", "DataError", "Facts", "Georeference", "Source", "Spacing", "StorageError", "open_image"]
