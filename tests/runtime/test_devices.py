"""`cnn.runtime.devices`: what is set before JAX is used, each setting in a process of its own."""

import functools
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import nets
from cnn.runtime import compiler
from cnn.runtime.compiler import LARGE_NET, jit_net, jit_once
from cnn.runtime.devices import Devices
from tests.helpers import PROGRAMS, run_python
from tests.made import shapes_of


@pytest.mark.parametrize("count, batch, expected", [(3, 48, 3), (0, 17, 1), (0, 8, 1)])
def test_cpu_devices(count, batch, expected):
    """As many as asked for; by itself, no more than divide the batch into parts of 16 and up."""
    done = run_python(PROGRAMS / "count_cpu_devices.py", count, batch)
    assert done.stdout.strip() == str(expected), done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is the GNU C library's")
def test_memory_is_kept():
    """The second 128 MiB touch no new pages of 4 KiB (there are 32,768 of them); without the setting they do."""
    found = {}
    for what in ("keep", "leave"):
        done = run_python(PROGRAMS / "keep_memory.py", what)
        if done.stderr.strip() == "skip":
            pytest.skip("this C library has no mallopt")
        assert done.returncode == 0, done.stderr
        found[what] = int(done.stdout)
    assert found["keep"] < 100, found
    assert found["leave"] > 10 * found["keep"], found


def compile_once(folder, **environment):
    """(folder, value, whether the cache was hit) of one process."""
    done = run_python(PROGRAMS / "compile_once.py", folder, **{"JAX_COMPILATION_CACHE_DIR": None, **environment})
    assert done.returncode == 0, done.stderr
    return *done.stdout.split(), done.stderr


def test_compiled_programs_are_kept(tmp_path):
    """The second process finds the first one's programs, in the user's cache directory, and the value is the same."""
    first, second = (compile_once("auto", XDG_CACHE_HOME=str(tmp_path)) for _ in range(2))
    assert pathlib.Path(first[0]).parent == tmp_path / "cnn-jax" and first[0] == second[0]
    assert (first[2], second[2]) == ("False", "True")
    assert first[1] == second[1]


@pytest.mark.slow
def test_where_compiled_programs_are_kept(tmp_path):
    told, home, mine = tmp_path / "told", tmp_path / "home", tmp_path / "mine"
    environment = {"JAX_COMPILATION_CACHE_DIR": str(told), "XDG_CACHE_HOME": str(home)}
    assert compile_once("auto", **environment)[0] == str(told)
    assert pathlib.Path(compile_once(str(mine), **environment)[0]).parent == mine
    assert compile_once("", **environment)[0] == "None"
    assert not home.exists()
    (tmp_path / "file").write_text("")
    folder, _, hit, error = compile_once(str(tmp_path / "file"), XDG_CACHE_HOME=str(home))
    assert (folder, hit) == ("None", "False") and "compiled programs are not kept: " in error


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the options are for CPU")
def test_large_nets_leave_products_to_xla(monkeypatch):
    """The compiled program of a large net has no YNNPACK product, where a small one's has (as far as XLA has any)."""
    devices, one = Devices(), jnp.ones((256, 256))
    ynnpack = "xla_cpu_experimental_ynn_fusion_type"
    is_known = compiler.is_known(ynnpack, "LIBRARY_FUSION_TYPE_REDUCE")
    if is_known:
        assert ynnpack in Devices(1).compiler_options(1)
        assert Devices(1).compiler_options(1) == devices.compiler_options(LARGE_NET)
    monkeypatch.setattr(Devices, "count", 2)
    assert ynnpack not in devices.compiler_options(LARGE_NET - 1)

    def program(multiply_adds):
        options = devices.compiler_options(multiply_adds)
        return jax.jit(jnp.matmul, compiler_options=options).lower(one, one).compile().as_text()

    assert "ynn" not in program(LARGE_NET)
    if is_known:
        assert "ynn" in program(1), "XLA's default has changed: measure again which is faster"
    monkeypatch.setattr(compiler, "is_known", lambda option, value: False)
    assert devices.compiler_options(LARGE_NET) == {}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the options are for CPU")
def test_vectors_are_wide():
    assert Devices(1).compiler_options(1)["xla_cpu_prefer_vector_width"] == 512


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the options are for CPU")
def test_pools_hand_no_products_to_ynnpack():
    # A sum or maximum over windows that it computes may take along the fully connected layers that follow.
    net = nets.create("full_cnn", 10)
    variables = shapes_of(net, (1, 28, 28, 1))
    classify = jax.jit(functools.partial(net.apply, train=False), compiler_options=Devices(1).compiler_options(1))
    program = classify.lower(variables, jnp.zeros((8, 28, 28, 1))).compile().as_text()
    called = re.findall(r"calls=%([\w.]+),[^\n]*__ynn_fusion", program)
    bodies = [program.split(f"\n%{name} ")[1].split("\n}")[0] for name in called]
    assert not any(" dot(" in body for body in bodies) and " dot(" in program


@jit_net
def product(scale, one, other):
    return scale * (one @ other)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the options are for CPU")
def test_nets_are_compiled_with_the_options():
    one = jnp.arange(256.0 * 256).reshape(256, 256) / 1e4
    assert "ynn" not in product.whole.lower(3, one, one).compile().as_text()
    expected = 3 * np.asarray(one, np.float64) @ np.asarray(one, np.float64)
    np.testing.assert_allclose(product(3, one, one), expected, rtol=1e-4)  # sums of 256 products in float32


def test_under_another_transformation_it_is_plain_jit():
    """Options within another compiled program are an error of JAX's."""
    one = jnp.arange(12.0).reshape(3, 4)
    expected = 3 * np.asarray(one) @ np.asarray(one).T
    np.testing.assert_array_equal(jax.jit(lambda x: product(3, x, x.T))(one), expected)
    np.testing.assert_array_equal(jax.vmap(lambda row: product(3, row[None], one.T)[0])(one), expected)
    np.testing.assert_array_equal(
        jax.grad(lambda x: product(3, x, one.T).sum())(one), np.tile(3 * one.sum(axis=0), (3, 1))
    )


@pytest.mark.slow  # by the optimisations that users have; the fast part compiles with fewer
def test_fewer_optimisations_give_the_same_variables():
    net = nets.create("qa_net", 3)

    def init(key):
        return net.init(key, jnp.zeros((1, 32, 32, 1)), train=False)

    found, expected = jit_once(init)(jax.random.key(5)), jax.jit(init)(jax.random.key(5))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    if jax.default_backend() == "cpu":
        assert compiler.is_known("xla_backend_optimization_level", 1)


def test_an_unknown_option_is_found_out():
    assert not compiler.is_known.__wrapped__("xla_no_such_option", "1")
