"""Targets of fuzzing that read files which others made: pictures, and nets of Caffe."""

import functools
import io
import os
import struct
import zlib

import numpy as np

from benchmarks.fuzz_bytes import Bytes, folder, mutated

PICTURES = ("png", "jpg", "tif", "bmp", "gif", "webp", "ppm", "tif-lzw", "png-p", "png-16", "tif-tiled", "jpg-cmyk")


@functools.lru_cache
def _picture(kind: str) -> bytes:
    """A small picture in some form."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    image, content = Image.fromarray(pixels), io.BytesIO()
    form = {"jpg": "JPEG", "tif": "TIFF"}.get(kind.partition("-")[0], kind.partition("-")[0].upper())
    if kind == "tif-tiled":
        import tifffile

        tifffile.imwrite(content, pixels, tile=(16, 16), compression="zlib", photometric="rgb")
        return content.getvalue()
    if kind == "png-16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if kind in ("png-p", "gif"):
        image = image.convert("P")
    if kind == "jpg-cmyk":
        image = image.convert("CMYK")
    image.save(content, form, **({"compression": "tiff_lzw"} if kind == "tif-lzw" else {}))
    return content.getvalue()


def pictures(data: bytes) -> None:
    """Pictures of some formats with damages, above all in their heads, as training and as a stream reads them."""
    from cnn import data as data_lib
    from cnn.images import pictures as pictures_lib
    from cnn.images.source import open_image

    pictures_lib.MAX_BYTES = 2**27  # so that what is refused as too large is small here
    draw = Bytes(data)
    kind = draw.pick(PICTURES)
    content = _picture(kind)
    head = 120 if draw.number(2) else len(content)
    content = mutated(draw, content[:head]) + content[head:]
    if kind.startswith("png") and draw.number(2):
        content = _with_checksums(content)
    suffix = draw.pick((kind.partition("-")[0],) * 3 + ("png", "jpg", "tif", "gif"))
    path = os.path.join(folder(), f"a.{suffix}")
    with open(path, "wb") as file:
        file.write(content)
    try:
        data_lib.load_images([path], 8, 3)
    finally:
        opened = open_image(path)
        height, width = min(opened.shape[0], 64), min(opened.shape[1], 64)
        opened.read(-1, height, -1, width)


def _with_checksums(content: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what they hold, so that a decoder looks further."""
    made, place = bytearray(content[:8]), 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        body = content[place + 4 : place + 8 + min(length, len(content))]
        made += content[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return bytes(made)


@functools.lru_cache
def _caffe() -> tuple[bytes, bytes]:
    """A small net as Caffe has it: its structure as text, and its trained weights."""
    from google.protobuf import text_format

    from cnn.exchange.caffe import schema

    net = schema.message("NetParameter", unpacked=True)()
    text_format.Parse(PROTOTXT, net)
    for name, shape in (("c", (2, 3, 3, 3)), ("f", (3, 72))):
        layer = next(layer for layer in net.layer if layer.name == name)
        for sizes in (shape, shape[:1]):
            blob = layer.blobs.add()
            blob.shape.dim.extend(sizes)
            blob.data.extend([0.5] * int(np.prod(sizes)))
    return PROTOTXT.encode(), net.SerializeToString()


def imports(data: bytes) -> None:
    """Structures and weights of Caffe: nets that others wrote."""
    from cnn.exchange import reading

    draw = Bytes(data)
    structure, weights = _caffe()
    damaged = draw.number(3)
    structure = mutated(draw, structure) if damaged else structure
    weights = mutated(draw, weights) if damaged != 1 else weights
    for name, content in (("a.prototxt", structure), ("a.caffemodel", weights)):
        with open(os.path.join(folder(), name), "wb") as file:
            file.write(content)
    path = os.path.join(folder(), "a.prototxt") if draw.number(4) else None
    reading.read(os.path.join(folder(), "a.caffemodel"), structure=path)


PROTOTXT = """name: "a"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 12 dim: 12 } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 3 pad: 1 }}
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "f" type: "InnerProduct" bottom: "p" top: "f" inner_product_param { num_output: 3 } }
layer { name: "s" type: "Softmax" bottom: "f" top: "s" }
"""
