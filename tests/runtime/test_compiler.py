"""Where compiled programs are kept."""

import jax
import pytest

from cnn.runtime import compiler


@pytest.fixture(name="settings", autouse=True)
def _settings():
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_folder_that_cannot_be_written_to_is_said_once_and_not_used(tmp_path, monkeypatch, capsys):
    def refused(*_, **options):
        raise PermissionError(13, "Permission denied", str(options["dir"]))

    assert compiler.cache_compilations(str(tmp_path)) is not None
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(compiler.tempfile, "TemporaryFile", refused)  # a superuser may write anywhere
    assert compiler.cache_compilations(str(tmp_path)) is None
    assert jax.config.jax_compilation_cache_dir is None
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("compiled programs are not kept: ") and str(tmp_path) in said[0]


def test_a_folder_that_cannot_be_made_is_said_once(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert compiler.cache_compilations(str(tmp_path / "file")) is None
    assert len(capsys.readouterr().err.splitlines()) == 1
