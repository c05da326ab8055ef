"""The net of the best validation: which one is kept, what is said of it, and how it is used."""

import math
import shutil

import jax
import numpy as np
import pytest

from cnn.runs import best, checkpoint, logs, overrides
from cnn.train import train_and_evaluate
from cnn.training import evaluate
from tests.training.tiny_runs import DATA, leaves_of, tiny_config, without_pictures


@pytest.fixture(autouse=True, scope="module", name="drawn")
def _drawn():
    with without_pictures():
        yield


def test_which_net_is_kept(tmp_path, capsys):
    """The most accurate; of these the one of lowest loss; of these the first; none of NaN; over several processes."""
    workdir = str(tmp_path)
    assert best.read(workdir) is None and not list(tmp_path.iterdir())
    offers = [(1, 0.5, math.nan), (2, 0.5, 1.0), (3, 0.4, 0.1), (4, 0.5, 0.9), (5, 0.5, 0.9), (6, 0.6, math.nan)]
    with best.Keeper(workdir) as keeper:
        for step, accuracy, loss in offers:
            keeper.offer(step, {"params": {"fc1": {"bias": np.full(3, step, np.float32)}}}, accuracy, loss)
    assert best.read(workdir) == (4, 0.5, 0.9, 0)
    with best.Keeper(workdir) as keeper:  # begun again at step 2: the same offers, then a better one before step 4
        for step, accuracy, loss in [(3, 0.4, 0.1), (4, 0.5, 0.9), (3, 0.7, 0.2)]:
            keeper.offer(step, {"params": {"fc1": {"bias": np.full(3, step, np.float32)}}}, accuracy, loss)
    assert best.read(workdir) == (3, 0.7, 0.2, 0)
    with checkpoint.Checkpoints(workdir, 1, checkpoint.BEST) as kept:
        found = kept.restore(3, variables={"params": {"fc1": {"bias": np.zeros(3, np.float32)}}})
    np.testing.assert_array_equal(found["variables"]["params"]["fc1"]["bias"], np.full(3, 3.0))
    assert [path.name for path in (tmp_path / checkpoint.BEST).iterdir()] == ["3"]
    (tmp_path / checkpoint.BEST / "3" / "facts" / "metadata").write_text("{")
    with best.Keeper(workdir, 4) as keeper:
        keeper.offer(5, {"params": {"fc1": {"bias": np.zeros(3, np.float32)}}}, 0.1, 0.2)
    assert best.read(workdir) == (5, 0.1, 0.2, 4)  # of the steps after 4, which stays with it
    with best.Keeper(workdir, 5) as keeper:
        keeper.offer(6, {"params": {"fc1": {"bias": np.zeros(3, np.float32)}}}, 0.3, 0.2)
    assert best.read(workdir) == (6, 0.3, 0.2, 4)
    said = capsys.readouterr().err
    assert "checkpoint of step 3 cannot be read" in said and "the best of the steps from here on is kept" in said


def each_step(steps, **fields):
    config = tiny_config(steps=steps, schedule="constant", learning_rate=0.1)
    config.eval.every_epochs = 1 / 6  # every step
    config.checkpoint.update(fields)
    return config


@pytest.mark.slow
def test_a_run_and_its_best_net(tmp_path):
    """A run that was cut in two keeps the same net; without the field it is taken away."""
    result = train_and_evaluate(each_step(8), str(tmp_path / "run"), DATA)
    lines = [line for line in logs.read_metrics(str(tmp_path / "run")) if line["split"] == "validation"]
    assert [line["step"] for line in lines] == list(range(1, 9))
    first = max(lines, key=lambda line: (line["accuracy"], -line["loss"]))
    kept = checkpoint.load_run(str(tmp_path / "run"), which="best")
    assert overrides.load_for_use(str(tmp_path / "run"), {}, which="best").step == kept.step
    assert kept.step == result["best"]["step"] == first["step"] < 8
    assert checkpoint.load_run(str(tmp_path / "run")).step == 8
    assert result["best"]["validation_accuracy"] == first["accuracy"]
    options = {"batch_size": 9}
    for split, name in ((DATA.validation, "validation_accuracy"), (DATA.test, "test_accuracy")):
        found = evaluate.evaluate(kept.net, kept.variables, split, kept.mean, kept.std, **options)
        assert found.accuracy == result["best"][name]
    assert f"of the best net by validation, step {kept.step}" in (tmp_path / "run" / "report.html").read_text()

    train_and_evaluate(each_step(2), str(tmp_path / "cut"), DATA)
    train_and_evaluate(each_step(8), str(tmp_path / "cut"), DATA, longer=True)
    for one, other in zip(leaves_of(tmp_path / "cut", which="best"), jax.tree.leaves(kept.variables), strict=True):
        np.testing.assert_array_equal(one, other)

    result = train_and_evaluate(each_step(9, best=False), str(tmp_path / "cut"), DATA, longer=True)
    assert "best" not in result
    with pytest.raises(FileNotFoundError, match="keeps no best checkpoint: .*; take the last one"):
        checkpoint.load_run(str(tmp_path / "cut"), which="best")
    with pytest.raises(ValueError, match=r"which \(='first'\) must be one of last, best"):
        checkpoint.load_run(str(tmp_path / "cut"), which="first")


def lose_best(workdir, how):
    step = next((workdir / checkpoint.BEST).iterdir())
    if how == "delete":
        shutil.rmtree(step.parent)
    else:
        file = next(path for path in sorted((step / "variables").rglob("*")) if path.is_file())
        content = file.read_bytes()
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])


@pytest.fixture(scope="module", name="runs")
def _runs(tmp_path_factory):
    """A run that ends at step 6 and keeps the checkpoints of all steps, and one that keeps the last one."""
    root = tmp_path_factory.mktemp("best")
    for name, keep in (("all", 6), ("one", 1)):
        train_and_evaluate(each_step(6, every_steps=1, keep=keep), str(root / name), DATA)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("how", ["flip", "delete"])
def test_a_best_net_that_was_lost_is_taken_from_the_checkpoint_of_its_step(tmp_path, runs, capsys, how):
    """In a run that is finished and in one that goes on; where there is none, what is kept says so."""
    shutil.copytree(runs / "all", tmp_path / "all")
    config = each_step(6, every_steps=1, keep=6)
    score, expected = best.read(str(runs / "all")), leaves_of(runs / "all", which="best")
    lose_best(tmp_path / "all", how)
    result = train_and_evaluate(config, str(tmp_path / "all"), DATA)
    assert f"it is taken from the checkpoint of step {score.step}" in capsys.readouterr().err
    assert result["best"] == logs.read_json(str(runs / "all" / "result.json"))["best"]
    lose_best(tmp_path / "all", how)
    train_and_evaluate(each_step(7, every_steps=1, keep=7), str(tmp_path / "all"), DATA, longer=True)
    if best.read(str(tmp_path / "all")) != score:
        assert score.is_below(*best.read(str(tmp_path / "all"))[1:3])
    else:
        for one, other in zip(leaves_of(tmp_path / "all", which="best"), expected, strict=True):
            np.testing.assert_array_equal(one, other)

    shutil.copytree(runs / "one", tmp_path / "one")
    config = each_step(6, every_steps=1, keep=1)
    score = best.read(str(runs / "one"))
    assert score.step < 6
    lose_best(tmp_path / "one", how)
    capsys.readouterr()
    result = train_and_evaluate(config, str(tmp_path / "one"), DATA)
    assert "; the best net is lost, the last one is not (--checkpoint=last)" in capsys.readouterr().err
    assert result == logs.read_json(str(runs / "one" / "result.json"))
    (tmp_path / "one" / "result.json").unlink()
    assert "best" not in train_and_evaluate(config, str(tmp_path / "one"), DATA)
    assert "the run's result says nothing of the best net" in capsys.readouterr().err
    result = train_and_evaluate(each_step(7, every_steps=1, keep=1), str(tmp_path / "one"), DATA, longer=True)
    assert result["best"]["step"] == 7 and result["best"]["since"] == 6
    assert "the best of the steps from here on is kept" in capsys.readouterr().err
    assert best.read(str(tmp_path / "one")).since == 6
