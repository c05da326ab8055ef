"""Damages in the files of pictures that a decoder passes over: JPEG has no checksums, and its decoder guesses on."""

import functools
import importlib.util

SOI, EOI, SOS, RST0, RST7 = 0xD8, 0xD9, 0xDA, 0xD0, 0xD7  # JPEG's markers, each after a byte 255


def of_file(path: str) -> str | None:
    """What is damaged in a picture's file, where something is seen.

    Only JPEG is looked at. PNG has checksums, which its decoder compares; BMP, PPM, WebP and TIFF without compression
    have none, and any bytes are pixels.

    Args:
      path: path of a file that was decoded.

    Returns:
      Words, or None. simplejpeg, where it is installed, decodes the file once more and finds what libjpeg warns of;
      without it only the order of the file's parts is looked at. Most changed bytes change pixels and nothing else.
    """
    with open(path, "rb") as file:
        if file.read(2) != bytes((255, SOI)):
            return None
        file.seek(0)
        content = file.read()
    return _order(content) or (_warnings(content) if _decoder() else None)


def _order(content: bytes) -> str | None:
    """What is wrong with the order of a JPEG's parts."""
    place, expected = 2, 0
    while place + 4 <= len(content):
        if content[place] != 255:
            return f"byte {place:,} should begin a part of the JPEG"
        marker = content[place + 1]
        if marker == 255:  # filling
            place += 1
            continue
        if marker == EOI:
            return None
        if marker == SOI or RST0 <= marker <= RST7:
            return f"a marker {marker:#x} at byte {place:,}, where none may be"
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if marker != SOS:
            continue
        expected = 0
        while True:  # the coded pixels, up to the next marker that is no restart
            place = content.find(255, place)
            if place < 0 or place + 1 >= len(content):
                return "it ends within its pixels"
            after = content[place + 1]
            if RST0 <= after <= RST7:
                if after - RST0 != expected:
                    return f"a part of its pixels is missing before byte {place:,}"
                expected = (expected + 1) % 8
            elif after not in (0, 255):
                break
            place += 1 if after == 255 else 2
    return None if content[place : place + 2] == bytes((255, EOI)) else "it ends before its last part"


@functools.lru_cache
def _decoder() -> bool:
    """Whether the decoder that reports libjpeg's warnings is installed."""
    return importlib.util.find_spec("simplejpeg") is not None


def _warnings(content: bytes) -> str | None:
    """What libjpeg warns of."""
    import simplejpeg  # pyright: ignore[reportMissingImports]  of the extra `images`

    try:
        _, _, space, _ = simplejpeg.decode_jpeg_header(content)
        # An eighth of the size: all bytes are decoded, and most of the arithmetic is saved.
        simplejpeg.decode_jpeg(content, "CMYK" if space in ("CMYK", "YCCK") else "GRAY", min_factor=8)
    except ValueError as error:
        return " ".join(str(error).split())
    return None
