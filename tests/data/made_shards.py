"""Sets in tar and Parquet files, made for tests."""

import io
import json
import tarfile

import numpy as np
import pyarrow as arrow
from PIL import Image
from pyarrow import parquet

from cnn import data

NAMES = ("cat", "dog", "eel")


def png_bytes(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pictures(count, seed, shape=(9, 12, 3)):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), np.uint8), np.arange(count) % 3


def add(file, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    file.addfile(member, io.BytesIO(content))


def write_tar(path, images, labels, ending="cls", extra=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            text = str(label) if ending == "cls" else json.dumps({"label": int(label), "width": 12})
            add(file, f"part/{path.stem}_{i:04}.png", png_bytes(image))
            if extra:
                add(file, f"part/{path.stem}_{i:04}.seg.png", b"not read")
            add(file, f"part/{path.stem}_{i:04}.{ending}", text.encode())


def write_parquet(path, images, labels, names=NAMES, group=7, columns=("image", "label")):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": png_bytes(image), "path": None} for image in images]
    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    table = arrow.table(
        {columns[0]: arrow.array(rows, kind), columns[1]: arrow.array(labels, arrow.int64()), "id": ["x"] * len(rows)}
    )
    features = {columns[0]: {"_type": "Image"}, columns[1]: {"_type": "ClassLabel", "names": list(names)}}
    said = {"huggingface": json.dumps({"info": {"features": features}})} if names else {}
    parquet.write_table(table.replace_schema_metadata(said), path, row_group_size=group)


def load(root, **options):
    return data.load("shards", dir=str(root), **options)
