"""Score maps of every net are lowered on this host for accelerators, and for any number of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from cnn import dense, nets
from cnn.windows import GeometryError
from tests.made import draw, random_variables, shapes_of
from tests.registered import ACCELERATORS, NAMES, WINDOWS

BACKENDS = ("shift", "atrous", "mpf")


def mapped(net, window, stride, backend):
    def scores(variables, images):
        # What all but the crops compute of a padded net; one with gates must be asked for it.
        context = "image" if backend != "crops" and dense.has_padding(net, window[:2], window[2]) else None
        return dense.score_map(net, variables, images, window[:2], stride, backend, context=context).scores

    return jax.jit(scores)


@pytest.mark.parametrize("name", NAMES)
def test_maps_of_every_net_are_lowered_for_accelerators(name, monkeypatch):
    window = WINDOWS[name]
    net = nets.create(name, num_classes=4)
    variables = shapes_of(net, (1, *window))
    (count,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((count, window[0] + 8, window[1] + 4, window[2]), jnp.float32)
    for asked in ("default_backend", "devices", "local_devices"):
        monkeypatch.setattr(jax, asked, None)  # whoever asks for the host's platform fails
    for backend in BACKENDS:
        stride = 4 if backend == "shift" else 2
        exported = export.export(mapped(net, window, stride, backend), platforms=ACCELERATORS)(variables, images)
        assert exported.out_avals[0].shape == (count, 8 // stride + 1, 4 // stride + 1, 4)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_number_of_images(backend):
    window = WINDOWS["qa_net"]
    net = nets.create("qa_net", num_classes=4)
    variables = random_variables(net, window[:2], window[2])
    sizes = (*export.symbolic_shape("b"), 36, 38, 3)
    run = mapped(net, window, 4 if backend == "shift" else 2, backend)
    exported = export.export(run)(variables, jax.ShapeDtypeStruct(sizes, jnp.float32))
    for count in (1, 17):
        images = draw(0, (count, *sizes[1:]))
        expected = run(variables, images)
        np.testing.assert_allclose(exported.call(variables, images), expected, rtol=0, atol=1e-5 * abs(expected).max())


def test_crops_are_batched_for_the_platform_of_the_program():
    window = WINDOWS["qa_net"]
    net = nets.create("qa_net", num_classes=4)
    variables, run = shapes_of(net, (1, *window)), mapped(net, window, 1, "crops")
    traced = run.trace(variables, jax.ShapeDtypeStruct((2, 43, 43, 3), jnp.float32))
    programs = {platform: traced.lower(lowering_platforms=(platform,)).as_text() for platform in ("cpu", "cuda", "tpu")}
    assert programs["cuda"] == programs["tpu"]
    # 288 windows: on CPU in two batches, whose activations stay in the cache, elsewhere in one.
    assert "tensor<288x32x32x3xf32>" in programs["cuda"] and "tensor<288x32x32x3xf32>" not in programs["cpu"]
    with pytest.raises(GeometryError, match=r"the number of images \(=b\) is symbolic; take another backend"):
        export.export(run)(variables, jax.ShapeDtypeStruct((*export.symbolic_shape("b"), 43, 43, 3), jnp.float32))
