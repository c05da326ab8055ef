"""A scene as a map for viewers and detections for QuPath. Run: python examples/scene_to_maps.py"""

import json
import pathlib

import numpy as np
import tifffile

from cnn import dense, nets

pixels = np.random.default_rng(0).integers(0, 4096, (500, 700, 3)).astype(np.uint16)  # 12 bits
tifffile.imwrite("scene.tif", pixels, tile=(256, 256), photometric="rgb", compression="zlib")

net = nets.create("qa_net", num_classes=3)
variables = nets.init(net, (32, 32, 3))
half = [0.5, 0.5, 0.5]  # mean and standard deviation that the net was trained with, of the full range
image = dense.open_image("scene.tif", value_range=(0, 4095))
names = ["cell", "debris", "background"]
options = {"mean": half, "std": half, "class_names": names, "overwrite": True}
done = dense.stream(net, variables, image, "scene.ome.zarr", window=(32, 32), **options)

scores = dense.open_map("scene.ome.zarr")
found = dense.detect(scores, threshold=0.4, background="background")
counts = dense.write_detections("scene.geojson", found, scores)
features = json.loads(pathlib.Path("scene.geojson").read_text())["features"]
print(f"{done.shape} scores; {sum(counts.values())} detections, {len(features)} rectangles: {counts}")
