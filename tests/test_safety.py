"""What a file says is data: it runs no code, expands to no gigabytes, and leads to no other file."""

import json
import pathlib
import shutil
import time

import numpy as np
import pytest

from cnn import data, dense
from cnn.images import ome_xml, xml_text
from cnn.images.errors import StorageError
from cnn.runs import checkpoint
from cnn.runtime import own_code

RUN = pathlib.Path(__file__).parent / "runs" / "run_of_before"
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9))
    + ']><OME><Image Name="&j;"><Pixels SizeX="1" SizeY="1"/></Image></OME>'
)
READS = '<!DOCTYPE OME [<!ENTITY x SYSTEM "file:///etc/passwd">]><OME><Image Name="&x;"><Pixels/></Image></OME>'


def test_xml_declares_nothing():
    start = time.monotonic()
    for text in (BOMB, READS, READS.lower(), "<OME", ""):
        assert xml_text.parse(text) is None and ome_xml.ome_images(text) == []
    assert time.monotonic() - start < 5
    (image,) = ome_xml.ome_images('<OME><Image Name="a &amp; b"><Pixels SizeX="3" SizeY="2"/></Image></OME>')
    assert image.name == "a & b" and image.size == (2, 3)


@pytest.mark.parametrize("where", ["inside", "relative", "unpinned", "of Python"])
def test_a_config_that_came_with_a_run_executes_nothing(tmp_path, where):
    """A run from anywhere, whose config names code that its user has never seen."""
    workdir = shutil.copytree(RUN, tmp_path / "run")
    evil, sign = workdir / "code" / "evil.py", tmp_path / "executed"
    evil.parent.mkdir()
    evil.write_text(f"open({str(sign)!r}, 'w').close()\n\ndef net(**options):\n    pass\n")
    named = {
        "inside": f"{evil}:net@{own_code.digest(str(evil))}",
        "relative": f"./evil.py:net@{own_code.digest(str(evil))}",
        "unpinned": f"{evil}:net",
        "of Python": f"subprocess:Popen@{'0' * 64}",
    }[where]
    for group in ("net", "data"):
        config = json.loads((RUN / "config.json").read_text())
        config[group]["name"] = named
        (workdir / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=rf"config.json: {group}.name names code .* which is not executed; if you"):
            checkpoint.load_run(str(workdir))
        assert not sign.exists()


def test_code_that_the_user_named_is_let_through(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("")
    for name in ("digits", "mnist:3.0.1", own_code.pinned(f"{path}:net"), f"flax.linen:Dense@{'0' * 64}"):
        own_code.check_saved(name, str(tmp_path / "run"), "net.name")


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    objects = np.array([Evil()], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", train_images=objects, train_labels=objects)
    with pytest.raises(StorageError):
        dense.open_image(str(tmp_path / "a.npy"))
    with pytest.raises(ValueError):
        data.load(str(tmp_path / "a.npz"))
    assert not (tmp_path / "executed").exists()


def test_links_of_hdf5_lead_to_no_other_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["group/secret"] = np.zeros((4, 4))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink("secret.h5", "/group/secret")
        file["folder"] = h5py.ExternalLink("secret.h5", "/group")
    for inside in ("link", "folder/secret"):
        with pytest.raises(StorageError, match="it is a link into .*secret.h5, which is not followed; open that file"):
            dense.open_image(f"{tmp_path}/a.h5::{inside}")
