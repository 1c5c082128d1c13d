"""What is exported, and that nothing else is loaded."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pickle
import pickletools
import sys
import tracemalloc
import warnings
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.learner import Learner, load_learner

from dexpression.artifact.export import export_learner, load_exported
from dexpression.artifact.manifest import Manifest
from dexpression.errors import (
    BrokenLearner,
    BrokenManifest,
    DigestMismatch,
    ForeignClass,
    IncompatibleVersion,
    MissingArtifact,
    UnwritableArtifact,
)
from dexpression.labels import FIVE, SEVEN
from dexpression.network.architecture import DeXpression
from dexpression.network.loss import EmotionLoss
from dexpression.network.transforms import inference_dataloaders
from tests.support.archives import archive_of, pickled_archive
from tests.support.faces import draw_face, encode


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    learner = Learner(inference_dataloaders(SEVEN, 48), DeXpression.compact(7), loss_func=EmotionLoss(0.1))
    export_learner(learner, tmp_path, 48, {"data": {"name": "drawn"}})
    return tmp_path / "dexpression.pkl"


def write_manifest(exported: Path, **changes: object) -> None:
    path = exported.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def put_in_place(exported: Path, content: bytes) -> None:
    """Another file, with a digest that fits: what an attacker who writes to model/ can do."""
    exported.write_bytes(content)
    write_manifest(exported, sha256=hashlib.sha256(content).hexdigest())


def pickled_strings(exported: Path) -> list[str]:
    with zipfile.ZipFile(exported) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("data.pkl")]
        operations = pickletools.genops(archive.read(name))
        return [argument for _, argument, _ in operations if isinstance(argument, str)]


def test_a_learner_comes_back_with_its_weights_and_manifest(exported):
    learner, manifest = load_exported(exported)
    torch.manual_seed(0)
    assert torch.equal(learner.model.stem[0][0].weight, DeXpression.compact(7).stem[0][0].weight)
    assert (manifest.labels, manifest.image_size) == (list(SEVEN), 48)
    assert manifest.versions.keys() == {"python", "torch", "fastai"}


@pytest.mark.parametrize("network", [DeXpression.compact(5), DeXpression.paper(5, image_size=32)])
def test_both_networks_are_made_of_classes_that_the_loader_knows(tmp_path, network):
    learner = Learner(inference_dataloaders(FIVE, 32), network, loss_func=EmotionLoss())
    export_learner(learner, tmp_path, 32, {})
    assert isinstance(load_exported(tmp_path / "dexpression.pkl")[0].model, DeXpression)


def test_plain_fastai_loads_and_predicts_whatever_a_picture_is(exported):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fastai's warning of pickle
        learner = load_learner(exported)
    face = draw_face("HAPPY", 0)
    path = exported.with_name("face.png")
    face.save(path)
    answers = [learner.predict(given) for given in (path, str(path), encode(face), face, np.asarray(face))]
    assert {label for label, _, _ in answers} <= set(SEVEN)
    assert all(torch.equal(probabilities, answers[0][2]) for _, _, probabilities in answers)


def test_the_file_holds_no_path_image_or_training_state_and_is_small(exported):
    assert [text for text in pickled_strings(exported) if "/" in text or "\\" in text or "Path" in text] == []
    assert not {"Recorder", "state_dict", "losses"} & set(pickled_strings(exported))
    assert load_exported(exported)[0].dls.train_ds.items == []
    assert exported.stat().st_size < 12_000_000


def test_exporting_leaves_the_learner_as_it_was(tmp_path):
    learner = Learner(inference_dataloaders(FIVE, 48), DeXpression.compact(5).train(), loss_func=EmotionLoss(0.1))
    before = dict(vars(learner))
    export_learner(learner, tmp_path, 48, {})
    assert vars(learner) == before
    assert learner.model.training


@pytest.mark.parametrize("missing", ["dexpression.pkl", "dexpression.json"])
def test_a_missing_file_is_named_with_the_way_to_get_one(exported, missing):
    (exported.parent / missing).unlink()
    with pytest.raises(MissingArtifact, match=rf"{missing} .*dexpression train FOLDER --output"):
        load_exported(exported)


def test_a_file_that_the_manifest_does_not_describe_is_not_unpickled(exported, monkeypatch):
    exported.write_bytes(exported.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled before its digest was checked"))
    with pytest.raises(DigestMismatch, match="Copy all files again"):
        load_exported(exported)


@pytest.mark.parametrize("theirs", ["2.7.19", "1.0.61", "3.0.0"])
def test_another_fastai_is_named_with_the_way_out(exported, theirs):
    write_manifest(exported, versions={"python": "3.11.0", "torch": "2.0.0", "fastai": theirs})
    with pytest.raises(IncompatibleVersion, match=rf"exported with fastai {theirs}.*Install fastai {theirs}"):
        load_exported(exported)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"labels": ["A", "B"]}', '{"labels": 1}'], ids=["empty", "cut", "list", "part", "wrong"]
)
def test_a_manifest_that_is_none_is_refused(exported, content):
    exported.with_suffix(".json").write_text(content)
    with pytest.raises(BrokenManifest, match="no manifest of ours"):
        load_exported(exported)


@pytest.mark.parametrize(
    "change", [{"labels": list(FIVE)}, {"labels": "HAPPY"}, {"image_size": "48"}, {"image_size": 64}, {"sha256": None}]
)
def test_a_manifest_that_does_not_fit_its_learner_is_refused(exported, change):
    write_manifest(exported, **change)
    with pytest.raises(BrokenManifest):
        load_exported(exported)


def test_two_of_the_same_facts_are_written_and_read(exported):
    manifest = Manifest.read(exported.with_suffix(".json"))
    assert json.loads(exported.with_suffix(".json").read_text()) == dataclasses.asdict(manifest)


class RunsCommand:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_foreign_class_is_refused_before_anything_of_it_runs(exported, tmp_path):
    put_in_place(exported, pickled_archive(RunsCommand(tmp_path / "ran")))
    with pytest.raises(ForeignClass, match=r"names (posix|nt)\.mkdir.* Nothing of dexpression.pkl was run"):
        load_exported(exported)
    assert not (tmp_path / "ran").exists()


def test_a_bare_pickle_is_refused_without_being_run(exported, tmp_path):
    put_in_place(exported, pickle.dumps(RunsCommand(tmp_path / "ran")))
    with pytest.raises(BrokenLearner):
        load_exported(exported)
    assert not (tmp_path / "ran").exists()


# Made of names alone that a learner needs: call a callback, whose call looks an attribute up, on `object`.
CALLS_AN_INSTANCE = (
    b"\x80\x04cfastai.callback.core\nTrainEvalCallback\n)\x81"
    b"}(X\x05\x00\x00\x00learncbuiltins\nobject\nX\x16\x00\x00\x00_component_attr_filtercbuiltins\nstr\nub"
    b"(X\x0e\x00\x00\x00__subclasses__tR."
)
CHANGES_A_CLASS = b"\x80\x04cfastai.learner\nLearner\n}(X\x07\x00\x00\x00predictcbuiltins\nstr\nub."
MAKES_BY_CALLING = b"\x80\x04(cdexpression.data\nReadFace\nK\x30o."


@pytest.mark.parametrize("program", [CALLS_AN_INSTANCE, CHANGES_A_CLASS, MAKES_BY_CALLING])
def test_known_names_cannot_be_put_together_to_reach_others(exported, program):
    put_in_place(exported, archive_of(program))
    with pytest.raises((ForeignClass, BrokenLearner), match=r"no learner of ours does|cannot be loaded"):
        load_exported(exported)


def test_the_way_by_a_callback_to_every_class_is_real_without_the_check():
    assert len(pickle.loads(CALLS_AN_INSTANCE)) > 100


def assert_refused_in_little_memory(exported: Path, content: bytes) -> None:
    put_in_place(exported, content)
    tracemalloc.start()
    with pytest.raises(BrokenLearner, match="cannot be loaded"):
        load_exported(exported)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_not_unpacked(exported):
    bomb = archive_of(bytes(300_000_000), packing=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1_000_000
    assert_refused_in_little_memory(exported, bomb)


def test_an_array_that_says_that_it_is_huge_is_not_made(exported):
    assert_refused_in_little_memory(exported, archive_of(pickle.BYTEARRAY8 + (300_000_000).to_bytes(8, "little")))


def test_a_path_that_leads_out_of_the_archive_leads_nowhere(exported, tmp_path):
    put_in_place(exported, archive_of(b"x", f"../../{tmp_path.name}-escaped"))
    before = {path.name for path in tmp_path.parent.iterdir()}
    with pytest.raises(BrokenLearner):
        load_exported(exported)
    assert {path.name for path in tmp_path.parent.iterdir()} == before


@pytest.mark.parametrize("program", [b"cbuiltins\neval\n(V1\ntR.", b"cos\nsystem\n(Vtrue\ntR.", b"ctorch\nsave\n)R."])
def test_functions_with_effects_are_refused_by_name(exported, program):
    put_in_place(exported, archive_of(b"\x80\x04" + program))
    with pytest.raises(ForeignClass, match="which no learner of ours needs"):
        load_exported(exported)


def test_a_pickle_in_place_of_a_weight_is_data_and_not_run(exported, tmp_path):
    hidden = pickle.dumps(RunsCommand(tmp_path / "ran"))
    with zipfile.ZipFile(exported) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    weight = max((name for name in members if "/data/" in name), key=lambda name: len(members[name]))
    members[weight] = hidden + members[weight][len(hidden) :]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    put_in_place(exported, buffer.getvalue())
    load_exported(exported)  # whether it answers as it should is asked afterwards, of its golden answers
    assert not (tmp_path / "ran").exists()


def test_a_torchscript_program_is_refused(exported):
    put_in_place(exported, archive_of(b"", "constants.pkl"))
    with pytest.raises(ForeignClass, match="TorchScript"):
        load_exported(exported)


@pytest.mark.parametrize("value", [EmotionLoss(), [1, 2]], ids=["a known class", "a list"])
def test_what_is_no_learner_is_refused(exported, value):
    put_in_place(exported, pickled_archive(value))
    with pytest.raises(BrokenLearner, match="no learner of a DeXpression network"):
        load_exported(exported)


@pytest.mark.parametrize("keep", [0, 100, 3_000_000], ids=["nothing", "a header", "all but the end"])
def test_a_damaged_archive_is_refused(exported, keep):
    put_in_place(exported, exported.read_bytes()[:keep])
    with pytest.raises(BrokenLearner, match="It is damaged: export the learner again"):
        load_exported(exported)


def test_an_archive_of_other_versions_that_does_not_load_names_them(exported):
    put_in_place(exported, b"no archive")
    write_manifest(exported, versions={"python": "3.9.0", "torch": "1.10.0", "fastai": version("fastai")})
    with pytest.raises(BrokenLearner, match=r"of python 3.9.0, torch 1.10.0, .*: install those"):
        load_exported(exported)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_an_export_that_finds_no_room_leaves_the_one_before(exported, tmp_path):
    import resource

    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))  # a learner has four times as many bytes
    try:
        with pytest.raises(UnwritableArtifact, match=r"Cannot export to .* \(File too large\)\. Make room there"):
            export_learner(load_exported(exported)[0], tmp_path, 48, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
