"""An export holds a learner and nothing private, loads with and without fastai, and is written whole or not at all."""

from __future__ import annotations

import json
import os
import pickle
import pickletools
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.learner import Learner, load_learner

import dexpression
from dexpression.artifact.export import export_learner, load_exported
from dexpression.artifact.golden import golden_faces
from dexpression.artifact.manifest import Manifest, export_paths
from dexpression.errors import BrokenManifest, BrokenWeights, DigestMismatch, MissingArtifact, UnwritableArtifact
from dexpression.labels import FIVE, SEVEN
from dexpression.network.architecture import DeXpression
from dexpression.network.loss import EmotionLoss, Readout
from dexpression.network.transforms import inference_dataloaders
from dexpression.settings import Settings
from tests.support.exports import change_manifest
from tests.support.faces import draw_face, encode

SHIPPED = export_paths(Settings.model_path)

PACKAGE = Path(dexpression.__file__).parent


def pickle_program(learner: Path) -> bytes:
    """The pickle in a learner's file. It is never run here."""
    with zipfile.ZipFile(learner) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("data.pkl")]
        return archive.read(name)


def pickled_strings(learner: Path) -> list[str]:
    return [argument for _, argument, _ in pickletools.genops(pickle_program(learner)) if isinstance(argument, str)]


def named_classes(learner: Path) -> Iterator[str]:
    """Yield the path of each class and function that a learner's file names: `module.name`."""
    strings: list[str | None] = []  # each string that is pushed, in order
    memo: list[str | None] = []  # what the pickle stored to push again; None for anything but a string
    last = None
    for opcode, argument, _ in pickletools.genops(pickle_program(learner)):
        if opcode.name == "MEMOIZE":
            memo.append(last)
            continue
        last = memo[argument] if opcode.name in ("BINGET", "LONG_BINGET") else argument
        if opcode.name == "GLOBAL":
            yield argument.replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
            last = None
        elif isinstance(last, str):
            strings.append(last)


def load_with_fastai(learner: Path) -> Learner:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fastai warns that a pickle can run code
        return load_learner(learner)


def test_a_learner_is_loaded_with_its_weights_and_its_manifest(exported):
    learner, manifest = load_exported(exported)
    torch.manual_seed(0)
    assert torch.equal(learner.model.stem[0][0].weight, DeXpression.compact(7).stem[0][0].weight)
    assert (manifest.labels, manifest.image_size) == (list(SEVEN), 48)
    assert manifest.versions.keys() == {"python", "torch", "fastai"}


@pytest.mark.parametrize(
    "network", [DeXpression.compact(5), DeXpression.paper(5, image_size=32)], ids=["compact", "paper"]
)
def test_both_networks_are_exported_and_loaded(tmp_path, network):
    learner = Learner(inference_dataloaders(FIVE, 32), network, loss_func=EmotionLoss())
    export_learner(learner, tmp_path, 32, {})
    assert isinstance(load_exported(tmp_path)[0].model, DeXpression)


def test_fastai_alone_loads_the_learner_and_predicts_from_paths_bytes_pictures_and_arrays(exported):
    learner = load_with_fastai(exported)
    face = draw_face("HAPPY", 0)
    path = exported.with_name("face.png")
    face.save(path)
    answers = [learner.predict(given) for given in (path, str(path), encode(face), face, np.asarray(face))]
    assert {label for label, _, _ in answers} <= set(SEVEN)
    assert all(torch.equal(probabilities, answers[0][2]) for _, _, probabilities in answers)


def test_fastai_alone_loads_the_shipped_learner_and_gets_the_answers_of_the_manifest():
    learner, manifest = load_with_fastai(SHIPPED.learner), Manifest.read(SHIPPED.manifest)
    for face, golden in zip(golden_faces(48)[:4, 0], manifest.golden["people"], strict=False):
        label, _, probabilities = learner.predict(face)
        assert probabilities.tolist() == pytest.approx(golden, abs=1e-3)
        assert label == manifest.labels[int(np.argmax(golden))]


def test_the_shipped_learner_names_seven_classes_of_ours_all_under_network():
    """These paths are fixed: fastai finds classes by them, so a class that moves breaks every export."""
    ours = {path for path in named_classes(SHIPPED.learner) if path.startswith("dexpression")}
    assert ours == {
        "dexpression.network.architecture.Convolution",
        "dexpression.network.architecture.DeXpression",
        "dexpression.network.architecture.ResidualFeatEx",
        "dexpression.network.loss.EmotionLoss",
        "dexpression.network.loss.Readout",
        "dexpression.network.transforms.PlaceholderLabel",
        "dexpression.network.transforms.ReadFace",
    }


def test_the_shipped_learner_names_only_classes_of_ours_torch_fastai_and_python():
    packages = {path.split(".")[0] for path in named_classes(SHIPPED.learner)} - sys.stdlib_module_names
    assert packages == {"dexpression", "fastai", "fastcore", "fasttransform", "torch"}


def test_the_file_is_small_and_holds_no_path_of_a_machine_image_or_training_state(exported):
    strings = pickled_strings(exported)
    assert [text for text in strings if "/" in text or "\\" in text] == []
    assert not {"Recorder", "state_dict", "losses"} & set(strings)
    assert load_exported(exported)[0].dls.train_ds.items == []
    assert exported.stat().st_size < 12_000_000


def test_an_export_does_not_change_the_learner(tmp_path):
    learner = Learner(inference_dataloaders(FIVE, 48), DeXpression.compact(5).train(), loss_func=EmotionLoss(0.1))
    before = dict(vars(learner))
    export_learner(learner, tmp_path, 48, {})
    assert vars(learner) == before
    assert learner.model.training


def test_an_export_without_an_onnx_model_removes_that_of_the_export_before(model):
    export_learner(load_exported(model)[0], model.parent, 48, {})
    names = ["dexpression.json", "dexpression.pkl", "dexpression.safetensors"]
    assert sorted(path.name for path in model.parent.iterdir()) == names


@pytest.mark.parametrize("missing", ["dexpression.safetensors", "dexpression.json"])
def test_a_missing_file_is_refused_with_the_command_that_makes_one(exported, missing):
    (exported.parent / missing).unlink()
    with pytest.raises(MissingArtifact, match=rf"{missing} .*dexpression train FOLDER --output"):
        load_exported(exported)


def test_weights_that_the_manifest_does_not_describe_are_refused(exported):
    weights = export_paths(exported).weights
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestMismatch, match=r"dexpression\.safetensors is not the file .* Copy all files again"):
        load_exported(exported)


def test_a_pickle_is_never_opened(exported, monkeypatch):
    """The pickle is for fastai's own load_learner. A damaged or foreign one changes nothing."""
    exported.write_bytes(pickle.dumps(RunsCommand(exported.with_name("ran"))))
    for module, name in ((pickle, "load"), (pickle, "loads"), (torch, "load")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("unpickled"))
    learner, _ = load_exported(exported)
    assert type(learner.model) is DeXpression
    assert not exported.with_name("ran").exists()


class RunsCommand:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_no_module_of_the_package_unpickles_a_file():
    """Checkpoints of our own runs are tensors: torch.load(weights_only=True)."""
    calls = {
        (path.name, re.sub(r"\s+", " ", match[0]))
        for path in sorted(PACKAGE.rglob("*.py"))
        for match in re.finditer(
            r"\b(?:c?[pP]ickle\.(?:loads?|Unpickler)|load_learner\(|torch\.load\(.*?\))", path.read_text(), re.DOTALL
        )
    }
    assert {name for name, _ in calls} == {"callbacks.py"}
    assert all("weights_only=True" in call for _, call in calls)


def test_an_invalid_manifest_is_refused(exported):
    exported.with_suffix(".json").write_text("{")
    with pytest.raises(BrokenManifest, match="is not a valid manifest"):
        load_exported(exported)


@pytest.mark.parametrize(("name", "heads"), [("paper", 1), ("compact", 2)])
def test_weights_of_another_network_are_refused(exported, name, heads):
    manifest = Manifest.read(export_paths(exported).manifest)
    readings = ("people", "labels")[-heads:]
    calibration = dict.fromkeys(readings, manifest.calibration["labels"])
    golden = dict.fromkeys(readings, manifest.golden["labels"])
    change_manifest(exported, network={"name": name, "heads": heads}, calibration=calibration, golden=golden)
    with pytest.raises(BrokenWeights, match="do not fit the network"):
        load_exported(exported)


def test_a_loaded_learner_predicts_as_fastai_does_and_can_be_exported_by_fastai_again(exported):
    loaded, of_fastai = load_exported(exported)[0], load_with_fastai(exported)
    face = draw_face("HAPPY", 0)
    assert torch.equal(loaded.predict(face)[2], of_fastai.predict(face)[2])
    for number, learner in enumerate((loaded, of_fastai)):
        assert isinstance(learner.path, Path)
        again = exported.with_name(f"again{number}.pkl")
        learner.export(again.resolve())
        assert torch.equal(load_with_fastai(again).predict(face)[2], loaded.predict(face)[2])


@pytest.mark.parametrize("load", [lambda model: load_exported(model)[0], load_with_fastai], ids=["ours", "fastai"])
def test_both_readouts_and_both_heads_are_restored(tmp_path, load):
    factors = torch.tensor([1.0, 2.0, 0.5, 1.0, 1.0])
    loss = EmotionLoss(readouts={"people": Readout(0.9, 0.5), "labels": Readout(0.25, 1.5, factors)})
    learner = Learner(inference_dataloaders(FIVE, 48), DeXpression.compact(5, heads=2), loss_func=loss)
    manifest = export_learner(learner, tmp_path, 48, {})
    restored = load(export_paths(tmp_path).learner)
    logits = torch.randn(4, 2, 5)
    assert list(restored.loss_func.readouts) == manifest.readings == ["people", "labels"]
    pairs = zip(restored.loss_func.probabilities(logits), loss.probabilities(logits), strict=True)
    assert all(torch.equal(given, expected) for given, expected in pairs)
    assert restored.model.heads == 2


def test_a_network_with_one_head_exports_the_reading_of_the_labels_alone(exported):
    learner, manifest = load_exported(exported)
    assert manifest.readings == list(manifest.golden) == list(learner.loss_func.readouts) == ["labels"]


def test_two_heads_without_a_readout_of_the_second_are_not_exported(tmp_path):
    """Else the next load would refuse what this export wrote."""
    learner = Learner(inference_dataloaders(FIVE, 48), DeXpression.compact(5, heads=2), loss_func=EmotionLoss())
    with pytest.raises(BrokenManifest, match="its calibration cannot be used"):
        export_learner(learner, tmp_path, 48, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot limit the size of a file")
def test_an_export_onto_a_full_disk_leaves_the_files_of_the_export_before(exported, tmp_path):
    import resource

    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))  # a learner has several times as many bytes
    try:
        with pytest.raises(UnwritableArtifact, match=r"Cannot export to .* \(File too large\)\. Make room there"):
            export_learner(load_exported(exported)[0], tmp_path, 48, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_manifest_on_disk_records_the_facts_of_the_export(exported):
    written = json.loads(exported.with_suffix(".json").read_text())
    assert (written["data"], sorted(written["digests"])) == ({"name": "drawn"}, ["pkl", "safetensors"])
    assert np.shape(written["golden"]["labels"]) == (16, 7)
