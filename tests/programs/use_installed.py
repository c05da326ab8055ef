"""Uses the installed package end to end, as a stranger would, from an empty directory; .ci/run runs it.

python use_installed.py: trains on digits for a few steps, loads the run, makes a score map, streams one to zarr, and
checks what was written.
"""

import importlib.metadata
import json
import os
import pathlib
import re

import numpy as np
import tensorstore

import cnn
from cnn import checkpoint, data, dense, geometry, nets, train
from cnn.reports import html
from cnn.runs import defaults


def main() -> None:
    """Raises where anything is not as it should be."""
    here = pathlib.Path.cwd()
    assert not list(here.iterdir()), f"{here} is not empty"
    installed = pathlib.Path(cnn.__file__).parent
    assert "site-packages" in installed.parts, f"cnn is imported from {installed}, not from where it was installed"
    assert cnn.__version__ == importlib.metadata.version("cnn") and (installed / "py.typed").exists()
    assert set(cnn.__all__) <= set(dir(cnn)) and "full_cnn" in nets.names()

    config = defaults.get_config()
    config.net.name = "qa_net"
    config.train.steps = 30
    config.checkpoint.every_steps = 30
    result = train.train_and_evaluate(config, "run")
    # A repository lies around this directory (see .ci/run): its commit is not that of the package.
    assert result["commit"] is None and result["version"] == cnn.__version__, result
    assert json.loads(pathlib.Path("run/result.json").read_text())["version"] == cnn.__version__

    page = pathlib.Path("run/report.html").read_text()
    for name in (*html.STYLES, *html.SCRIPTS):
        assert (installed / "reports" / name).read_text().strip() in page, f"report.html lacks {name}"
    assert not re.search(r'(src|href)="(https?:)?//', page), "report.html fetches something"

    run = checkpoint.load_run("run")
    image = data.load("digits").test.images[:4].reshape(2, 64, 32, 1).transpose(1, 0, 2, 3).reshape(1, 64, 64, 1)
    maps = dense.score_map(run.net, run.variables, data.normalise(image, run.mean, run.std), window=(32, 32), stride=4)
    assert np.asarray(maps.scores).shape == (1, 9, 9, 10)
    assert geometry.table(run.net, run.image_shape)[-1].output_shape == (10,)

    dense.stream(*(run.net, run.variables, image[0], "map.zarr"), window=(32, 32), mean=run.mean, std=run.std, stride=4)
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": os.path.abspath("map.zarr")}}
    streamed = np.asarray(tensorstore.open(spec).result().read().result())
    np.testing.assert_allclose(streamed, np.asarray(maps.scores)[0], atol=1e-4)
    print("the installed package works")


if __name__ == "__main__":
    main()
