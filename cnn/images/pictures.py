"""Pictures that Pillow decodes as a whole: any mode, size and orientation -> grey or RGB, upright.

Pictures of up to 8 bits are read as bytes by `decode`. Those of more, 16-bit grey and colours and floating values, are
read as they are stored by `open_picture`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from cnn.images import deep_pictures, tiff_pages
from cnn.images.errors import DataError, StorageError
from cnn.images.views import Turned

if TYPE_CHECKING:
    from PIL import Image

MODES = {1: "L", 3: "RGB"}  # channels -> Pillow's name
MAX_BYTES = 8 * 2**30  # a set, or one picture, larger than this is not read into memory
_WIDTH, _LENGTH = 256, 257  # numbers of TIFF's tags
# EXIF's orientation -> the name of Pillow's operation that sets the picture upright.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_LOCK = threading.Lock()
_readers, _guard = 0, 0  # threads that have lifted Pillow's limit, and what it was


def decode(
    file: str | os.PathLike[str] | IO[bytes], channels: int, reduced: Callable[[int, int], int] | None = None
) -> Image.Image:
    """Reads one picture upright, as 8-bit grey or RGB.

    The EXIF orientation is applied. Transparent pixels are laid over white, as a viewer shows them; 16-bit
    grey is scaled to 8 bits; palette, CMYK and other modes are converted. Files are read by
    `cnn.images.whole.read_whole`, which uses this for pictures of bytes; this is for encoded pictures in memory.

    Args:
      file: path, or an open binary file.
      channels: 1 for grey, 3 for RGB.
      reduced: (height, width) of the upright picture, pixels -> by what they may be divided: 1, 2, 4 or 8. Of a JPEG
        nothing finer is then decoded; other formats are decoded whole. None: 1. It is called once.

    Returns:
      A loaded Pillow image of mode "L" or "RGB".

    Raises:
      DataError: not a picture that Pillow can read, several pictures in one file, values that have no 8-bit meaning, or
        more than MAX_BYTES of pixels.
    """
    from PIL import Image

    with _opened(file) as opened:
        image: Image.Image = opened
        _check_size(opened, channels)
        if reduced is not None:
            factor = reduced(*_upright_size(opened))
            if factor > 1 and opened.format == "JPEG":  # the decoder chooses a power of two; the size is rounded up
                opened.draft(opened.mode, (-(-opened.width // factor), -(-opened.height // factor)))
        image.load()
        turn = _TURNS.get(_orientation(image))  # after loading: Pillow turns a TIFF by itself, and takes the tag away
        if turn:
            # By the tag alone: ImageOps.exif_transpose writes all EXIF fields anew, and fails where one is invalid.
            image = image.transpose(Image.Transpose[turn])
        if image.mode.startswith("I") or image.mode == "F":
            image = _to_eight_bits(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def _check_size(image: Image.Image, channels: int, itemsize: int = 1) -> None:
    """Refuses what is too large to be decoded; before EXIF's orientation is asked for: a PNG is decoded for that."""
    width, height = image.size
    size = height * width * channels * itemsize
    if size > MAX_BYTES:
        raise DataError(
            f"{height}x{width}x{channels} is {size / 2**30:.1f} GiB when decoded, the limit {MAX_BYTES / 2**30:g} "
            "GiB, and it cannot be decoded in parts; convert it to a zarr or a tiled TIFF, and run the net over "
            "that from file to file: experiments.dense_eval with --image and --output=MAP.zarr"
        )


@contextlib.contextmanager
def _opened(file: str | os.PathLike[str] | IO[bytes]) -> Iterator[Image.Image]:
    """A picture's file, at the page that is meant; every error that comes of it, later too, names the file.

    Raises:
      DataError: not a picture that Pillow can read, or one of several.
    """
    from PIL import Image

    named = isinstance(file, str | os.PathLike)
    try:
        # Not by its path: Pillow maps some uncompressed TIFFs into memory then, and scrambles those that lie on a side.
        with (
            _any_size(),
            open(file, "rb") if named else contextlib.nullcontext(file) as stream,
            Image.open(stream) as image,
        ):
            _choose_page(image, stream)
            yield image
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error, ...
        why = str(error).partition(" <_io.")[0]  # Pillow names the open file, as Python shows it
        raise DataError(f"cannot read {os.fspath(file) if named else 'it'} as an image: {why}") from error


@contextlib.contextmanager
def _any_size() -> Iterator[None]:
    """Lifts Pillow's limit of some 179 million pixels, which protects servers from hostile uploads.

    Users name their own files here, which may be large; what is decoded is compared with MAX_BYTES instead. The limit
    is a global variable: the first of several threads lifts it, the last puts it back.
    """
    from PIL import Image

    global _readers, _guard
    with _LOCK:
        if not _readers:
            _guard = Image.MAX_IMAGE_PIXELS
        _readers += 1
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _LOCK:
            _readers -= 1
            if not _readers:
                Image.MAX_IMAGE_PIXELS = _guard


def _choose_page(image: Image.Image, stream: IO[bytes]) -> None:
    """Turns to the page that is meant. Small pictures beside a photograph (format MPO) are previews and left out."""
    if image.format == "TIFF":  # also of one page for Pillow, which does not count them as tifffile does
        import tifffile  # Pillow fails where it turns to a page that it does not read, such as a mask

        stream.seek(0)
        with tifffile.TiffFile(stream) as file:
            page = tiff_pages.meant(file).keyframe.index
        if page:
            image.seek(page)
    elif getattr(image, "is_animated", False) and image.format != "PSD":  # of which Pillow counts the layers
        if image.format == "MPO" and not _has_twins(image):
            return
        raise ValueError("it holds several pictures, one after the other; save the one that is meant")


def _has_twins(image: Image.Image) -> bool:
    """Whether a picture of several has another one as large as the first, such as the other half of a stereo pair."""
    size, frames, twins = image.size, int(getattr(image, "n_frames", 1)), False
    for number in range(1, frames):
        image.seek(number)
        twins = twins or image.size == size
    image.seek(0)
    return twins


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1, upright, also where the EXIF data are damaged."""
    from PIL import ExifTags

    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as many kinds as in `_opened`; viewers show such a picture as it lies
        return 1


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an opened picture once it is turned."""
    width, height = image.size
    if image.format == "TIFF":  # whose size Pillow gives as it lies or turned, as its version has it
        tags: Any = image
        width, height = (int(tags.tag_v2[tag]) for tag in (_WIDTH, _LENGTH))
    return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    from PIL import Image

    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"mode {image.mode!r} with values {values.min()} to {values.max()}: only 8-bit and unsigned "
            "16-bit pixels have a known range; save it as one of these"
        )
    return Image.fromarray(np.round(values / 257.0).astype(np.uint8))  # 65535 / 257 = 255


def is_known(file: str) -> bool:
    """Whether Pillow knows the format of a file, however many pictures it holds and whether it can read them or not.

    Args:
      file: its path.

    Returns:
      Whether it does.
    """
    from PIL import Image

    try:
        with _any_size(), Image.open(file):
            return True
    except Exception:  # as many kinds as in `_opened`
        return False


def is_grey(file: str | os.PathLike[str] | IO[bytes]) -> bool:
    """Whether a picture has no colours, from the file's header alone.

    Args:
      file: path, or an open binary file.

    Returns:
      Whether it is stored with one channel, or one and transparency.

    Raises:
      DataError: not a picture that Pillow can read.
    """
    with _opened(file) as image:
        return _is_grey(image)


def _is_grey(image: Image.Image) -> bool:
    return len(image.getbands()) <= 2 and image.mode != "P"


def picture_size(file: str | os.PathLike[str] | IO[bytes]) -> tuple[int, int]:
    """The size that `decode` will give a picture, from the file's header alone.

    Args:
      file: path, or an open binary file.

    Returns:
      (height, width), pixels, upright.

    Raises:
      DataError: not a picture that Pillow can read.
    """
    with _opened(file) as image:
        return _upright_size(image)


def open_picture(path: str, channels: int | None) -> Any:
    """Decodes a picture, upright.

    Args:
      path: path of a file that Pillow reads.
      channels: 1 for grey, 3 for RGB; None: 1 for a grey picture, 3 for others.

    Returns:
      [H, W] or [H, W, 3]: uint8, as `decode` gives it; uint16 of a PNG or PGM of 16 bits, whatever its values; floating
      or int32 of other pictures that hold such. Transparent pixels are laid over white.

    Raises:
      StorageError: if the file is no picture, is too large to be decoded, needs a package that is missing, or the net
        takes other channels.
    """
    if channels is not None and channels not in MODES:
        raise StorageError(
            f"{path}: a picture is read as 1 or 3 channels, the net takes {channels}; choose channels of it in order "
            f"(--channels={','.join('0' for _ in range(channels))}), pass an array, or save it as .npy"
        )
    try:
        with _opened(path) as image:
            deep = deep_pictures.is_deep(image, path)
            if deep:
                _check_size(image, 3, 4)
                return deep_pictures.read(image, path, channels, _orientation(image))
            grey = _is_grey(image)
        return np.asarray(decode(path, channels or (1 if grey else 3)))
    except DataError as error:
        raise StorageError(str(error)) from error


def transparency(path: str) -> Any:
    """Which pixels of a picture are not wholly transparent.

    Args:
      path: path of a file that Pillow reads.

    Returns:
      bool [H, W], upright, decoded when it is first sliced as [rows, columns]; None: the picture has no transparency.
    """
    with _opened(path) as image:
        return _Opaque(path, _upright_size(image)) if image.has_transparency_data else None


class _Opaque:
    """Which pixels of a picture are not wholly transparent; decoded when first asked for."""

    def __init__(self, path: str, shape: tuple[int, int]) -> None:
        self.shape, self.dtype = shape, np.dtype(bool)
        self._path, self._array = path, None

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        if self._array is None:
            with _opened(self._path) as image:
                alpha = np.asarray(image.convert("RGBA").getchannel("A")) != 0
                self._array = Turned(alpha, _orientation(image))[0 : self.shape[0], 0 : self.shape[1]]
        return self._array[region]
