"""One of several processes: COORDINATOR PROCESSES INDEX FOLDER PARTS DEVICES STEPS; writes FOLDER/report.json.

Trains and streams as tests/runtime/test_processes.py asks. With 0 as PROCESSES it is by itself.
"""

import json
import pathlib
import sys
import time

import jax
import numpy as np
from PIL import Image

from cnn import data, dense, nets, train
from cnn.dense.streaming import together
from cnn.runs import checkpoint, stopping
from cnn.runtime import arrays_of_all, presence, processes, signals
from cnn.training.evaluate import evaluate
from configs import default

coordinator, number, index, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
parts, steps = sys.argv[5].split(","), int(sys.argv[7])
jax.config.update("jax_num_cpu_devices", int(sys.argv[6]))
if number:
    processes.start(coordinator, number, index)
found = {}
watch = signals.begin() if "slowly" in parts else None  # as in a command
processes.SEEN_SECONDS = 1.0
if "slowly" in parts and processes.is_first():  # a large checkpoint, or a slow disk
    leave = checkpoint.Checkpoints.__exit__

    def slowly(self, *exception):
        with stopping.kept():
            time.sleep(9)
        return leave(self, *exception)

    checkpoint.Checkpoints.__exit__ = slowly


def pictures(count, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return (rng.integers(0, 80, (count, 8, 8)) + 80 * labels[:, None, None]).astype(np.uint8), labels


if "words" in parts:
    every = list(range(processes.count()))
    assert processes.gather([processes.index()]) == [[i] for i in every]
    assert processes.total(np.array([[2**40, processes.index()]])).tolist() == [[2**40 * len(every), sum(every)]]
    rows = np.full((processes.index(), 2), processes.index() + 0.1)
    assert arrays_of_all.rows_of_all(rows)[:, 0].tolist() == [i + 0.1 for i in every for _ in range(i)]
    sent = arrays_of_all.tree_from_first({"x": np.float32([processes.index() + 5])})
    assert sent["x"].tolist() == [5]
    for call in (
        lambda: processes.agree("config", {"seed": 3, "steps": 5 + (processes.index() == 1)}),
        lambda: processes.from_first(lambda: json.loads("{")),
    ):
        try:
            call()
        except ValueError as error:
            found.setdefault("errors", []).append(str(error))
    with processes.alone(f"{folder}/seen", "a study", seen=True):
        pass
    try:
        with processes.alone(f"{folder}/seen by {processes.index()}", "a study", seen=True):
            found["errors"].append("nothing was said")
    except ValueError as error:
        found["errors"].append(str(error))
    # Of six pictures the second and the last of a class cannot be read: each lies in one process's share.
    for i in range(12 * processes.is_first()):
        place = pathlib.Path(folder, "pictures", "ab"[i // 6], f"{i % 6}.png")
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), 20 * i, np.uint8)).save(place)
        if i in (1, 11):
            place.write_bytes(place.read_bytes()[:40])
    processes.barrier("pictures")
    skipping = {"dir": f"{folder}/pictures", "image_size": 4, "on_error": "skip"}
    read = data.load("folder", **skipping, share=processes.share())
    found["skipped"] = processes.gather([list(one) for one in read.skipped])
    found["pictures"] = processes.gather([read.train.labels.tolist(), read.train.images[:, 0, 0, 0].tolist()])
    alone = data.load("folder", **skipping)
    found["skipped alone"] = [list(one) for one in alone.skipped]
    found["pictures alone"] = [alone.train.labels.tolist(), alone.train.images[:, 0, 0, 0].tolist()]
if "train" in parts:
    config = default.get_config()
    config.update_from_flattened_dict(
        {
            "net.name": "layer_pattern",
            "train.steps": steps,
            "train.batch_size": 12,
            "checkpoint.every_steps": 2 if steps < 10 else 20,
            "eval.scenes": 0,
            "eval.batch_size": 8,
            "eval.every_epochs": 0.4 if steps < 10 else 20,
        }
    )
    config.net.options = {"features": 4, "width": 6, "blocks": 1}
    made = data.from_arrays(pictures(60, 0), pictures(7, 1), validation=pictures(1, 2))
    if "files" in parts:  # of one process in memory, of several decoded when they are used
        for split, seed in (("train", 0), ("val", 1)):
            for i, (image, label) in enumerate(zip(*pictures(62 if seed == 0 else 7, seed), strict=True)):
                place = pathlib.Path(folder, "files", split, "abc"[label], f"{i:02}.png")
                place.parent.mkdir(parents=True, exist_ok=True)
                if processes.is_first():
                    Image.fromarray(image).save(place)
        if number:
            processes.barrier("files")
        made, chosen = None, {"in_memory": "no" if number else "yes", "on_error": "skip"}
        config.data.update({"name": "folder", "dir": f"{folder}/files", "image_size": 8, **chosen})
    try:
        result = train.train_and_evaluate(config, f"{folder}/run", made)
    except stopping.Stopped as error:
        if watch:
            watch.end()
        sys.exit(128 + error.signal)
    except Exception as error:
        if processes.is_loss(error):
            presence.wait_for_verdict()
        raise
    found["result"] = {name: result[name] for name in ("test_accuracy", "test_loss", "validation_accuracy", "best")}
if "evaluate" in parts:  # fewer examples than processes
    net = nets.create("layer_pattern", 3, features=2, width=4, blocks=1)
    split = data.of_share(data.from_arrays(pictures(9, 3), pictures(3, 4)), processes.share())
    scored = evaluate(net, nets.init(net, (8, 8, 1)), split.test, (0.5,), (0.25,), batch_size=2, share=split.share)
    found["evaluated"] = [scored.examples, scored.loss, scored.confusion.tolist(), scored.predictions.tolist()]
if "stream" in parts:
    net = nets.create("layer_pattern", 3, features=2, width=4, blocks=1)
    image = np.random.default_rng(5).integers(0, 255, (150, 90, 1), dtype=np.uint8)
    options = {"window": (8, 8), "stride": 2, "mean": 0.5, "std": 0.25, "tile": 16, "progress": False}
    options["devices"] = jax.local_devices()[:1]
    for name in ("map.zarr", "map.ome.zarr"):
        done = dense.stream(net, nets.init(net, (8, 8, 1)), image, f"{folder}/{name}", together=True, **options)
        found[name] = [done.tiles, done.tiles_done_before]
    if number:
        for sink, more in ((f"{folder}/map.npy", {}), (f"{folder}/other.zarr", {"cover": True})):
            try:
                together.check_shared(sink, **{"cover": False, **more})
            except ValueError as error:
                found.setdefault("refused", []).append(str(error))
if processes.is_first():
    with open(f"{folder}/report.json", "w") as file:
        json.dump(found, file)
