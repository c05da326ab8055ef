"""Pictures in files: any mode, size and orientation -> uint8 arrays of one shape."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from cnn.data import tiff_pages

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


class DataError(ValueError):
    """A data set that is missing, malformed or too large; the message says which, and what to do."""


def decode(file: str | os.PathLike[str] | IO[bytes], channels: int) -> Image.Image:
    """Reads one picture upright, as 8-bit grey or RGB; every command and every reader reads pictures by this.

    The EXIF orientation is applied. Transparent pixels are laid over white, as a viewer shows them; 16-bit
    grey is scaled to 8 bits; palette, CMYK and other modes are converted.

    Args:
      file: path, or an open binary file.
      channels: 1 for grey, 3 for RGB.

    Returns:
      A loaded Pillow image of mode "L" or "RGB".

    Raises:
      DataError: not a picture that Pillow can read, several pictures in one file, values that have no 8-bit meaning, or
        more than MAX_BYTES of pixels.
    """
    from PIL import Image

    with _opened(file) as opened:
        image: Image.Image = opened
        width, height = opened.size
        size = height * width * channels
        if size > MAX_BYTES:  # before EXIF's orientation is asked for: a PNG is decoded for that
            raise DataError(
                f"{height}x{width}x{channels} is {size / 2**30:.1f} GiB when decoded, the limit {MAX_BYTES / 2**30:g} "
                "GiB, and it cannot be decoded in parts; convert it to a zarr or a tiled TIFF, and run the net over "
                "that from file to file: experiments.dense_eval with --image and --output=MAP.zarr"
            )
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
        raise DataError(f"cannot read {os.fspath(file) if named else 'it'} as an image: {error}") from error


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
    if not getattr(image, "is_animated", False):  # which is Pillow's word for several of any kind
        return
    if image.format == "TIFF":
        import tifffile  # Pillow fails where it turns to a page that it does not read, such as a mask

        stream.seek(0)
        with tifffile.TiffFile(stream) as file:
            page = tiff_pages.meant(file).keyframe.index
        image.seek(page)
    elif image.format in ("GIF", "PNG", "WEBP"):
        raise ValueError("it holds several pictures, one after the other; save the one that is meant")


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


def resize_and_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resizes an image (bicubic, antialiased) until it just covers a size, and cuts out the centre.

    Args:
      image: a Pillow image.
      height: rows wanted.
      width: columns wanted.

    Returns:
      A Pillow image of width x height; the very image if it already has that size.
    """
    from PIL import Image

    if image.size == (width, height):
        return image
    scale = max(height / image.height, width / image.width)
    covering = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    image = image.resize(covering, Image.Resampling.BICUBIC)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def resize(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resizes one image (Pillow's bicubic, antialiased), each channel by itself.

    Args:
      image: uint8 [H, W, C], any number of channels.
      size: (height, width), pixels; the aspect ratio becomes theirs.

    Returns:
      uint8 [height, width, C]; the very array if it has that size already.
    """
    from PIL import Image

    if image.shape[:2] == tuple(size):
        return image
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((size[1], size[0]), Image.Resampling.BICUBIC))
        for plane in np.moveaxis(image, -1, 0)
    ]
    return np.stack(planes, axis=-1)


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


def load_images(paths: Sequence[str], image_size: int | tuple[int, int], channels: int) -> np.ndarray:
    """Reads pictures as a net wants them: shortest side resized (antialiased), then the centre cut out.

    Args:
      paths: files that Pillow can read; grey, RGB(A), palette, CMYK, 16-bit, with any EXIF orientation.
      image_size: pixels, one number for a square or (height, width).
      channels: 1 for grey, 3 for RGB.

    Returns:
      uint8 [N, height, width, channels].

    Raises:
      DataError: a file that cannot be read (it is named), a size below 1, channels other than 1 or 3, or more
        than MAX_BYTES of pixels.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height < 1 or width < 1:
        raise DataError(f"image_size (={height}x{width}) must be at least 1x1 pixel")
    if channels not in MODES:
        raise DataError(f"channels (={channels}) must be 1 (grey) or 3 (RGB)")
    check_memory(len(paths), (height, width, channels))
    images = np.empty((len(paths), height, width, channels), np.uint8)

    def read(i: int) -> None:
        image = resize_and_crop(decode(os.fspath(paths[i]), channels), height, width)
        images[i] = np.asarray(image).reshape(height, width, channels)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and resizes outside the GIL
        for _ in pool.map(read, range(len(paths))):
            pass
    return images


def check_memory(count: int, shape: tuple[int, int, int]) -> None:
    """Refuses a set that does not fit in memory before any of it is read.

    Args:
      count: images.
      shape: (H, W, C) of each, uint8.

    Raises:
      DataError: more than MAX_BYTES; says how many, and which image_size would fit.
    """
    height, width, channels = shape
    needed = count * height * width * channels
    if needed > MAX_BYTES:
        shrink = (MAX_BYTES / needed) ** 0.5
        raise DataError(
            f"{count} images of {height}x{width}x{channels} need {needed / 2**30:.1f} GiB of memory, above "
            f"the limit of {MAX_BYTES / 2**30:g} GiB (cnn.data.image_files.MAX_BYTES); a data.image_size of "
            f"{int(min(height, width) * shrink)} or less fits"
        )
