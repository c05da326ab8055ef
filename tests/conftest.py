"""Settings and fixtures of all tests."""

import collections
import gc
import os
import pathlib
import subprocess
import zlib

import hypothesis
import jax
import pytest

from tests.chromium import browser_fixture  # noqa: F401  the fixture `browser` of all tests of pages

# An array that broadcasts to a higher rank in silence is a bug in waiting: [N] + [N, 1] is [N, N].
jax.config.update("jax_numpy_rank_promotion", "raise")

# Every example compiles several programs, so the fast part takes few. The same ones in every run of the checks;
# HYPOTHESIS_PROFILE=thorough looks further.
_SLOW = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much, hypothesis.HealthCheck.data_too_large]
for _name, _examples in (("fast", 6), ("everything", 8), ("thorough", 250)):
    hypothesis.settings.register_profile(
        _name, max_examples=_examples, deadline=None, derandomize=_name != "thorough", suppress_health_check=_SLOW
    )

# Cases of a test with many that the fast part takes.
CASES = 2


def pytest_addoption(parser: pytest.Parser) -> None:
    """`python -m pytest` runs the fast part of the tests, which is complete in kind; --everything runs all."""
    parser.addoption("--everything", action="store_true", help="also run the tests that are marked slow")
    parser.addoption("--cases", type=int, help="of each test at most this many slow cases, spread evenly; default: all")
    parser.addoption("--part", type=int, help="of slow tests one of so many parts, each commit another; default: all")


def pytest_configure(config: pytest.Config) -> None:
    """Takes as many examples of each property as the part that was asked for has time for, and compiles as carefully.

    Nearly all of the tests' time goes into tracing and compiling small programs. The fast part does without most of
    LLVM's optimisations, a quarter of that time; --everything has the programs that users have.
    """
    everything = config.getoption("--everything")
    hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "everything" if everything else "fast"))
    if not everything:
        flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    # Tracing makes many objects, none of them garbage: the collector's default takes a tenth of the time.
    gc.set_threshold(100_000, 50, 1000)


def is_slow(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("slow", "long"))


def all_but_some_cases(items: list[pytest.Item], count: int) -> list[pytest.Item]:
    """The cases of each test but for a few that are spread evenly over their list."""
    tests = collections.defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            tests[item.path, item.originalname].append(item)
    left = []
    for cases in tests.values():
        taken = {round(i * (len(cases) - 1) / max(count - 1, 1)) for i in range(count)}
        left += [case for i, case in enumerate(cases) if i not in taken]
    return left


def of_other_parts(items: list[pytest.Item], count: int, root: pathlib.Path) -> list[pytest.Item]:
    """The tests but for one of `count` parts: which one goes with the commit, so that their turns come."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True)
    turn = int(done.stdout[:8] or "0", 16) % count
    return [item for item in items if zlib.crc32(item.nodeid.partition("[")[0].encode()) % count != turn]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out tests that are marked slow, unless everything was asked for.

    Where the whole suite is run, most cases of tests that have many count as slow; where files or tests are named, all
    their cases run.
    """
    if config.args == config.getini("testpaths"):
        for case in all_but_some_cases([item for item in items if not is_slow(item)], CASES):
            case.add_marker(pytest.mark.slow)
    slow = [item for item in items if is_slow(item)]
    if config.getoption("--everything"):
        count = config.getoption("--cases")
        slow = [item for item in slow if not item.get_closest_marker("pages")]  # all of them, with every commit
        some, parts = ([] if count is None else all_but_some_cases(slow, count)), config.getoption("--part")
        slow = list({*some, *of_other_parts(slow, parts, config.rootpath)}) if parts else some
    if slow:
        config.hook.pytest_deselected(items=slow)
        left = set(slow)
        items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="session")
def tfds_data_dir() -> pathlib.Path:
    """Folder with prepared TFDS sets, from the environment; skips the test where there is none."""
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder:
        pytest.skip("reads prepared TFDS sets: set TFDS_DATA_DIR to the folder that holds them")
    path = pathlib.Path(folder).expanduser()
    if not path.is_dir():
        pytest.skip(f"TFDS_DATA_DIR is {folder}, which is no folder")
    return path


@pytest.fixture(scope="session", autouse=True)
def compiled_programs_are_shared(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests and the commands that they start share compiled programs, apart from the user's: half of the time."""
    base = tmp_path_factory.getbasetemp()
    folder = str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["CNN_DATA_CACHE"] = f"{folder}-data"  # decoded data of commands, likewise
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
