"""A foreign pickle in place of the learner runs nothing, reaches no other class, and takes little memory."""

from __future__ import annotations

import io
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from dexpression.artifact.export import load_exported
from dexpression.errors import BrokenLearner, ForeignClass
from tests.support.archives import archive_of, pickled_archive
from tests.support.exports import replace_learner


class MakesFolder:
    """Its pickle makes a folder when it is loaded, and so shows whether it was run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_foreign_function_is_refused_before_anything_is_run(exported, tmp_path):
    replace_learner(exported, pickled_archive(MakesFolder(tmp_path / "ran")))
    with pytest.raises(ForeignClass, match=r"names (posix|nt)\.mkdir.* Nothing of dexpression.pkl was run"):
        load_exported(exported)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_without_its_archive_is_refused_and_not_run(exported, tmp_path):
    replace_learner(exported, pickle.dumps(MakesFolder(tmp_path / "ran")))
    with pytest.raises(BrokenLearner):
        load_exported(exported)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_in_place_of_a_weight_is_read_as_numbers_and_not_run(exported, tmp_path):
    hidden = pickle.dumps(MakesFolder(tmp_path / "ran"))
    with zipfile.ZipFile(exported) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    weight = max((name for name in members if "/data/" in name), key=lambda name: len(members[name]))
    members[weight] = hidden + members[weight][len(hidden) :]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    replace_learner(exported, buffer.getvalue())
    load_exported(exported)  # verify_export finds the wrong weights, by their golden answers
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("program", [b"cbuiltins\neval\n(V1\ntR.", b"cos\nsystem\n(Vtrue\ntR.", b"ctorch\nsave\n)R."])
def test_functions_with_effects_are_refused_by_name(exported, program):
    replace_learner(exported, archive_of(b"\x80\x04" + program))
    with pytest.raises(ForeignClass, match="which no learner of ours needs"):
        load_exported(exported)


# These pickles name only classes that a learner needs. The first calls an instance of a callback: the call looks up an
# attribute, here `__subclasses__` of `object`.
CALLS_AN_INSTANCE = (
    b"\x80\x04cfastai.callback.core\nTrainEvalCallback\n)\x81"
    b"}(X\x05\x00\x00\x00learncbuiltins\nobject\nX\x16\x00\x00\x00_component_attr_filtercbuiltins\nstr\nub"
    b"(X\x0e\x00\x00\x00__subclasses__tR."
)
CHANGES_A_CLASS = b"\x80\x04cfastai.learner\nLearner\n}(X\x07\x00\x00\x00predictcbuiltins\nstr\nub."
CREATES_BY_CALLING = b"\x80\x04(cdexpression.network.transforms\nReadFace\nK\x30o."


@pytest.mark.parametrize(
    "program",
    [CALLS_AN_INSTANCE, CHANGES_A_CLASS, CREATES_BY_CALLING],
    ids=["calls an instance", "changes a class", "creates by calling"],
)
def test_allowed_classes_cannot_be_combined_to_reach_others(exported, program):
    replace_learner(exported, archive_of(program))
    with pytest.raises((ForeignClass, BrokenLearner), match=r"no learner of ours does|cannot be loaded"):
        load_exported(exported)


def test_an_unchecked_load_lets_a_callback_reach_every_class():
    """CALLS_AN_INSTANCE is a real attack on a loader that checks only which names a pickle has."""
    assert len(pickle.loads(CALLS_AN_INSTANCE)) > 100


def test_a_torchscript_program_is_refused(exported):
    replace_learner(exported, archive_of(b"", "constants.pkl"))
    with pytest.raises(ForeignClass, match="TorchScript"):
        load_exported(exported)


def test_a_member_whose_path_leads_out_of_the_archive_writes_no_file(exported, tmp_path):
    replace_learner(exported, archive_of(b"x", f"../../{tmp_path.name}-escaped"))
    before = {path.name for path in tmp_path.parent.iterdir()}
    with pytest.raises(BrokenLearner):
        load_exported(exported)
    assert {path.name for path in tmp_path.parent.iterdir()} == before


def assert_refused_in_little_memory(exported: Path, content: bytes) -> None:
    replace_learner(exported, content)
    tracemalloc.start()
    with pytest.raises(BrokenLearner, match="cannot be loaded"):
        load_exported(exported)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(exported):
    bomb = archive_of(bytes(300_000_000), packing=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1_000_000
    assert_refused_in_little_memory(exported, bomb)


def test_a_byte_array_of_a_huge_declared_length_is_not_allocated(exported):
    assert_refused_in_little_memory(exported, archive_of(pickle.BYTEARRAY8 + (300_000_000).to_bytes(8, "little")))
