"""A run learns, continues after a stop, and never mixes with the runs of other recipes, precisions or data."""

from __future__ import annotations

import dataclasses
import io
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from fastai.callback.core import Callback
from fastai.learner import Learner

from dexpression.artifact.export import load_exported
from dexpression.artifact.manifest import Manifest
from dexpression.errors import BrokenCheckpoint, RecipeError
from dexpression.labels import SEVEN
from dexpression.network.architecture import DeXpression
from dexpression.training import fitting
from dexpression.training.crops import FaceCropper
from dexpression.training.fitting import (
    average_weights,
    class_weights,
    copy_weights,
    create_learner,
    fit,
    prepare_run,
    prepare_split,
    resolve_precision,
    run_folder,
)
from dexpression.training.recipe import Recipe
from dexpression.training.sources import read_faces
from tests.support.faces import draw_face, write_class_folders, write_votes
from tests.support.recipes import QUICK

AUTO, BFLOAT16, FLOAT32 = (
    dataclasses.replace(QUICK, precision=precision).fitted_to(42, SEVEN)
    for precision in ("auto", "bfloat16", "float32")
)
TWO = ("HAPPY", "SURPRISE")


class StopAfter(Callback):
    """Stops a run after an epoch, as someone does who presses Ctrl-C."""

    order = 90  # after the checkpoint

    def __init__(self, epoch: int) -> None:
        self.last = epoch

    def after_epoch(self) -> None:
        if self.epoch == self.last:
            raise KeyboardInterrupt


def untrained(source: Path, recipe: Recipe) -> Learner:
    """The learner of a run before its training."""
    return create_learner(*prepare_run(source, recipe, source.parent / "runs"))


def fitted(source: Path, runs: Path, recipe: Recipe, *callbacks: Callback) -> Learner:
    dataloaders, recipe = prepare_run(source, recipe, runs)
    learner = create_learner(dataloaders, recipe)
    learner.add_cbs(callbacks)
    with learner.no_bar(), learner.no_logging():
        fit(learner, recipe, runs)
    return learner


def from_start(start: Path, **options: object) -> Recipe:
    return dataclasses.replace(QUICK, **{"from_scratch": False, "start": start, "start_share": 0.0} | options)


def recorded(learner: Learner) -> list[list[float]]:
    """The losses and the accuracy of each epoch."""
    return learner.history["epochs"]


def have_same_weights(one: Learner, other: Learner) -> bool:
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


def measure(monkeypatch: pytest.MonkeyPatch, *, bfloat16_is_faster: bool) -> None:
    """Let the measurement of the processor give this result."""
    monkeypatch.setattr(fitting, "is_faster_in_bfloat16", lambda device: bfloat16_is_faster)


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Learner, "_backward", lambda *_, **__: pytest.fail("trained"))


@pytest.mark.parametrize(("bfloat16_is_faster", "expected"), [(True, BFLOAT16), (False, FLOAT32)])
def test_auto_becomes_the_precision_that_is_measured_to_be_faster(
    split_folders, tmp_path, monkeypatch, bfloat16_is_faster, expected
):
    measure(monkeypatch, bfloat16_is_faster=bfloat16_is_faster)
    assert prepare_run(split_folders, AUTO, tmp_path)[1] == expected


@pytest.mark.parametrize(("begun", "bfloat16_is_faster"), [(BFLOAT16, False), (FLOAT32, True)])
def test_auto_keeps_the_precision_of_a_begun_run_even_if_the_other_one_is_faster_now(
    split_folders, tmp_path, monkeypatch, begun, bfloat16_is_faster
):
    measure(monkeypatch, bfloat16_is_faster=bfloat16_is_faster)
    dataloaders, _ = prepare_run(split_folders, begun, tmp_path)
    run_folder(dataloaders, begun, tmp_path).mkdir()
    assert resolve_precision(AUTO, dataloaders, tmp_path) == begun


def test_a_begun_run_of_another_recipe_does_not_decide_the_precision(split_folders, tmp_path, monkeypatch):
    measure(monkeypatch, bfloat16_is_faster=True)
    dataloaders, _ = prepare_run(split_folders, FLOAT32, tmp_path)
    run_folder(dataloaders, dataclasses.replace(FLOAT32, seed=1), tmp_path).mkdir()
    assert resolve_precision(AUTO, dataloaders, tmp_path) == BFLOAT16


@pytest.mark.parametrize(("explicit", "begun"), [(BFLOAT16, FLOAT32), (FLOAT32, BFLOAT16)])
def test_an_explicit_precision_stays_and_is_not_measured(split_folders, tmp_path, monkeypatch, explicit, begun):
    monkeypatch.setattr(fitting, "is_faster_in_bfloat16", lambda device: pytest.fail("measured"))
    dataloaders, _ = prepare_run(split_folders, explicit, tmp_path)
    run_folder(dataloaders, begun, tmp_path).mkdir()
    assert resolve_precision(explicit, dataloaders, tmp_path) == explicit


def test_auto_and_the_same_explicit_precision_are_one_run_and_the_other_precision_is_another(
    split_folders, tmp_path, monkeypatch
):
    measure(monkeypatch, bfloat16_is_faster=False)
    dataloaders, resolved = prepare_run(split_folders, AUTO, tmp_path)
    assert run_folder(dataloaders, resolved, tmp_path) == run_folder(dataloaders, FLOAT32, tmp_path)
    assert run_folder(dataloaders, resolved, tmp_path) != run_folder(dataloaders, BFLOAT16, tmp_path)


def test_a_learner_is_not_created_with_an_unresolved_precision(split_folders, tmp_path):
    with pytest.raises(RecipeError, match="precision is auto"):
        create_learner(prepare_run(split_folders, FLOAT32, tmp_path)[0], AUTO)


def test_a_prepared_recipe_is_that_for_the_number_of_its_training_images(split_folders, tmp_path):
    dataloaders, recipe = prepare_run(split_folders, Recipe(precision="float32"), tmp_path)
    assert recipe == Recipe(precision="float32").fitted_to(len(dataloaders.train_ds), list(dataloaders.vocab))
    assert dataloaders.bs == recipe.batch_size


@pytest.mark.parametrize(
    ("option", "value", "same_run"),
    [
        ("seed", 1, False),
        ("epochs", 4, False),
        ("learning_rate", 1e-4, False),
        ("jpeg", 0.5, False),
        ("labels", "seven", True),  # the labels of these faces, however they were chosen
        ("detect", "never", True),
    ],
)
def test_a_run_is_named_by_the_options_that_decide_what_it_learns(split_folders, tmp_path, option, value, same_run):
    dataloaders, recipe = prepare_run(split_folders, QUICK, tmp_path)
    other = dataclasses.replace(recipe, **{option: value})
    assert (run_folder(dataloaders, recipe, tmp_path) == run_folder(dataloaders, other, tmp_path)) is same_run


def test_the_start_names_a_run_wherever_it_lies_and_its_share_does_not(
    split_folders, tmp_path, exported_learner, other_model, model
):
    dataloaders, recipe = prepare_run(split_folders, from_start(exported_learner), tmp_path)
    first, other = (Manifest.of_export(start) for start in (exported_learner, other_model))
    folder = run_folder(dataloaders, recipe, tmp_path, first)
    for change in ({"start": model.parent}, {"start_share": 0.5}):
        assert run_folder(dataloaders, dataclasses.replace(recipe, **change), tmp_path, first) == folder
    assert folder not in (run_folder(dataloaders, recipe, tmp_path, start) for start in (other, None))


def test_rare_labels_weigh_more_and_the_mean_weight_of_the_images_is_1(tmp_path):
    write_class_folders(tmp_path / "train", 9, labels=("HAPPY", "SAD"))
    write_class_folders(tmp_path / "train" / "happy" / "more", 27, labels=("HAPPY",), seed=1)
    write_class_folders(tmp_path / "valid", 2, labels=("HAPPY", "SAD"), seed=2)
    dataloaders, _ = prepare_run(tmp_path, QUICK, tmp_path / "runs")
    assert class_weights(dataloaders, 0.0) is None
    happy, sad = class_weights(dataloaders, 0.5).tolist()
    assert sad / happy == pytest.approx(2)
    assert (36 * happy + 9 * sad) / 45 == pytest.approx(1)


def test_a_network_has_a_readout_for_each_head(split_folders):
    write_votes(split_folders / "fer2013new.csv", None, 1070)
    readings = [
        list(untrained(split_folders, recipe).loss_func.readouts)
        for recipe in (QUICK, dataclasses.replace(QUICK, votes=0.0))
    ]
    assert readings == [["people", "labels"], ["labels"]]


def test_a_run_can_start_from_the_weights_of_an_export(split_folders, exported_learner):
    learner = untrained(split_folders, from_start(exported_learner))
    given = load_exported(exported_learner)[0].model.state_dict()
    assert all(torch.equal(weight, given[name]) for name, weight in learner.model.state_dict().items())


def test_the_same_recipe_makes_the_same_weights_also_of_labels_that_the_start_does_not_know(tmp_path, exported_learner):
    folder = write_class_folders(tmp_path / "faces", 4, TWO, names=("bored", "happy"))
    first, again = (untrained(folder, from_start(exported_learner)) for _ in range(2))
    assert have_same_weights(first, again)


def network_of(labels: tuple[str, ...], heads: int = 1, seed: int = 0) -> DeXpression:
    torch.manual_seed(seed)
    return DeXpression.compact(len(labels), heads=heads).eval()


def logits_by_label(network: DeXpression, labels: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The logits of three faces by label, each (faces, heads)."""
    with torch.no_grad():
        logits = network(torch.linspace(-2, 2, 3 * 48 * 48).view(3, 1, 48, 48))
    logits = logits.view(3, network.heads, len(labels))
    return {label: logits[:, :, number] for number, label in enumerate(labels)}


@pytest.mark.parametrize(
    "labels", [("SAD", "BORED", "HAPPY"), ("HAPPY",), ("HAPPY", "SAD", "ANGRY"), ("A", "B")], ids=str
)
def test_labels_that_the_start_knows_keep_their_logits_and_others_their_own_rows(labels):
    known = ("ANGRY", "HAPPY", "SAD")
    source, target, plain = network_of(known), network_of(labels, seed=1), network_of(labels, seed=1)
    copy_weights(source, target, known, labels)
    before, after = logits_by_label(source, known), logits_by_label(target, labels)
    for number, label in enumerate(labels):
        if label in known:
            assert torch.allclose(after[label], before[label], atol=1e-5)
        else:
            rows = [network.classifier[-1].weight[number] for network in (target, plain)]
            assert torch.equal(*rows)


def test_a_new_vocabulary_keeps_all_weights_but_the_last_layer():
    source, target = network_of(("HAPPY", "SAD")), network_of(("A", "B", "C"), seed=1)
    copy_weights(source, target, ("HAPPY", "SAD"), ("A", "B", "C"))
    given, taken = source.state_dict(), target.state_dict()
    kept = {
        name for name, tensor in taken.items() if given[name].shape == tensor.shape and torch.equal(given[name], tensor)
    }
    assert len(taken.keys() - kept) == 2  # the weight and the bias of the last layer


def test_a_new_head_for_votes_starts_as_the_head_of_the_labels_and_is_left_out_again():
    labels = ("HAPPY", "SAD")
    one, two, again = network_of(labels), network_of(labels, heads=2, seed=1), network_of(labels, seed=2)
    copy_weights(one, two, labels, labels)
    copy_weights(two, again, labels, labels)
    for label, logits in logits_by_label(one, labels).items():
        assert torch.allclose(logits_by_label(two, labels)[label], logits.expand(-1, 2), atol=1e-5)
        assert torch.allclose(logits_by_label(again, labels)[label], logits, atol=1e-5)


def test_a_start_that_is_another_network_is_refused_with_what_to_choose(split_folders, exported_learner):
    with pytest.raises(
        RecipeError, match=r"is the network compact for 48x48 pixels.*--network compact, or --from-scratch"
    ):
        untrained(split_folders, from_start(exported_learner.parent, network="paper"))


@pytest.mark.parametrize("option", ["teacher_share", "start_share"])
def test_a_start_that_does_not_know_a_label_can_neither_teach_nor_be_averaged_and_is_refused_before_the_training(
    split_folders, tmp_path, own_model, monkeypatch, option
):
    forbid_training(monkeypatch)
    with pytest.raises(RecipeError, match=r"start does not know ANGRY, .*Set teacher_share and start_share to 0"):
        fitted(split_folders, tmp_path / "runs", from_start(own_model, **{option: 0.5}))


@pytest.mark.parametrize("damage", ["empty", "garbage", "cut off", "another structure", "a pickle"])
def test_a_damaged_checkpoint_is_named_with_what_to_do(split_folders, tmp_path, monkeypatch, damage):
    dataloaders, recipe = prepare_run(split_folders, QUICK, tmp_path)
    folder = run_folder(dataloaders, recipe, tmp_path)
    folder.mkdir()
    saved = io.BytesIO()
    torch.save({"network": {"x": torch.zeros(3)}}, saved)
    contents = {
        "empty": b"",
        "garbage": b"garbage",
        "cut off": saved.getvalue()[:-100],
        "another structure": saved.getvalue(),
        "a pickle": pickle.dumps(pytest.fail),
    }
    (folder / "checkpoint.pth").write_bytes(contents[damage])
    forbid_training(monkeypatch)
    with pytest.raises(BrokenCheckpoint) as refused:
        fitted(split_folders, tmp_path, QUICK)
    assert str(refused.value) == (
        f"The checkpoint {folder / 'checkpoint.pth'} is damaged. Delete it and give the same command again: "
        "the run then starts anew."
    )


@pytest.mark.slow
def test_a_run_that_was_stopped_continues_to_the_same_weights(split_folders, tmp_path):
    whole = fitted(split_folders, tmp_path / "whole", QUICK)
    with pytest.raises(KeyboardInterrupt):
        fitted(split_folders, tmp_path / "stopped", QUICK, StopAfter(0))
    resumed = fitted(split_folders, tmp_path / "stopped", QUICK)
    assert have_same_weights(whole, resumed)
    assert recorded(whole) == recorded(resumed)


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(split_folders, tmp_path, monkeypatch):
    first = fitted(split_folders, tmp_path, QUICK)
    forbid_training(monkeypatch)
    again = fitted(split_folders, tmp_path, QUICK)
    assert recorded(again) == recorded(first)
    assert have_same_weights(again, first)


@pytest.mark.slow
def test_a_run_that_ended_early_has_its_best_weights_after_a_stop_too_and_is_not_trained_again(tmp_path, monkeypatch):
    """The labels of valid are the wrong ones, so that its loss rises while the network learns."""
    write_class_folders(tmp_path / "faces" / "train", 24, TWO)
    write_class_folders(tmp_path / "faces" / "valid", 8, TWO, seed=1, names=("surprise", "happy"))
    recipe = dataclasses.replace(QUICK, epochs=12, patience=2)
    ended = fitted(tmp_path / "faces", tmp_path / "whole", recipe)
    losses = [loss for _, loss, _ in recorded(ended)]
    assert len(losses) < 12
    assert losses.index(min(losses)) == len(losses) - 1 - 2
    assert float(ended.validate()[0]) == pytest.approx(min(losses), abs=1e-3)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "faces", tmp_path / "stopped", recipe, StopAfter(len(losses) - 2))
    resumed = fitted(tmp_path / "faces", tmp_path / "stopped", recipe)
    forbid_training(monkeypatch)
    again = fitted(tmp_path / "faces", tmp_path / "whole", recipe)
    assert recorded(ended) == recorded(resumed) == recorded(again)
    assert have_same_weights(ended, resumed)
    assert have_same_weights(ended, again)


@pytest.mark.slow
def test_another_recipe_or_other_data_is_another_run(split_folders, tmp_path):
    recipe = dataclasses.replace(QUICK, epochs=1)
    fitted(split_folders, tmp_path / "runs", recipe)
    fitted(split_folders, tmp_path / "runs", dataclasses.replace(recipe, seed=1))
    draw_face("HAPPY", 99).save(split_folders / "train" / "happy" / "more.png")
    fitted(split_folders, tmp_path / "runs", recipe)
    assert len(list((tmp_path / "runs").iterdir())) == 3


@pytest.fixture(scope="module")
def hundred_faces(tmp_path_factory) -> Path:
    """A hundred drawn faces of two labels to train on, and 40 to validate."""
    folder = tmp_path_factory.mktemp("hundred") / "faces"
    write_class_folders(folder / "train", 50, TWO)
    write_class_folders(folder / "valid", 20, TWO, seed=1)
    return folder


def last_epoch(source: Path, runs: Path, **options: object) -> list[float]:
    """The losses and the accuracy after eight epochs."""
    return recorded(fitted(source, runs, dataclasses.replace(QUICK, epochs=8, **options)))[-1]


@pytest.fixture(scope="module")
def plain(hundred_faces, tmp_path_factory) -> list[float]:
    """The last epoch of a run in float32 whose weights are not averaged."""
    return last_epoch(hundred_faces, tmp_path_factory.mktemp("runs"), ema_decay=0.0)


@pytest.mark.slow
def test_a_network_learns_to_tell_drawn_faces_apart(plain):
    assert plain[-1] > 0.9


@pytest.mark.slow
def test_a_network_learns_in_bfloat16_too(hundred_faces, tmp_path):
    assert last_epoch(hundred_faces, tmp_path, precision="bfloat16")[-1] > 0.9


@pytest.mark.slow
def test_the_average_of_a_short_run_is_as_good_as_its_weights(hundred_faces, tmp_path, plain):
    """At a constant decay of 0.998, 48 steps would leave the average nine tenths of its random start."""
    average = last_epoch(hundred_faces, tmp_path, ema_decay=0.998)
    assert average[-1] >= plain[-1] - 0.05
    assert average[1] < plain[1] + 0.1  # the loss on valid


@pytest.mark.slow
def test_the_head_for_votes_learns_the_votes(class_folders, tmp_path):
    write_votes(class_folders / "fer2013new.csv", None, 70)  # every face has most votes for happiness
    learner = fitted(class_folders, tmp_path, dataclasses.replace(QUICK, epochs=4))
    learner.loss_func.readouts["people"].vote_share = 1.0  # whatever calibration found
    assert learner.get_preds()[0].argmax(dim=1).tolist() == [SEVEN.index("HAPPY")] * 7


@pytest.mark.slow
@pytest.mark.parametrize(("from_scratch", "expected"), [(True, [32, 40, 48]), (False, [48, 48, 48])])
def test_faces_grow_from_32_to_48_pixels_in_a_run_from_scratch_and_validation_faces_have_48(
    split_folders, tmp_path, exported_learner, from_scratch, expected
):
    sides: list[list[int]] = [[], []]
    note = Callback(after_batch=lambda self: sides[self.training].append(self.xb[0].shape[-1]))
    recipe = QUICK if from_scratch else from_start(exported_learner)
    fitted(split_folders, tmp_path, dataclasses.replace(recipe, batch_size=42), note)
    assert sides[True] == expected
    assert set(sides[False]) == {48}


@pytest.mark.slow
@pytest.mark.parametrize(("share", "same"), [(1.0, True), (0.5, False)])
def test_a_network_that_its_start_alone_teaches_learns_nothing_from_labels(tmp_path, exported_learner, share, same):
    folder = write_class_folders(tmp_path / "faces", 8, TWO)
    faces = read_faces(folder, FaceCropper(48)).faces
    swapped = [dataclasses.replace(face, label=TWO[1 - TWO.index(face.label)]) for face in faces]
    recipe = from_start(exported_learner, epochs=1, teacher_share=share)
    learners = []
    for train in (faces, swapped):
        dataloaders, fitted_recipe = prepare_split(train, faces[::4], recipe, tmp_path)
        learners.append(create_learner(dataloaders, fitted_recipe))
        fit(learners[-1], fitted_recipe, tmp_path)
    assert have_same_weights(*learners) is same


@pytest.mark.slow
def test_a_result_has_its_share_of_the_start(split_folders, tmp_path, exported_learner):
    plain, mixed = (
        fitted(split_folders, tmp_path, from_start(exported_learner, epochs=1, start_share=share))
        for share in (0.0, 0.25)
    )
    start, trained, given = (one.model.stem[0][0].weight for one in (load_exported(exported_learner)[0], plain, mixed))
    assert not torch.allclose(trained, start, atol=1e-6)
    assert torch.allclose(given, 0.75 * trained + 0.25 * start, atol=1e-6)


@pytest.mark.slow
def test_another_export_that_replaces_the_start_during_a_run_changes_neither_its_weights_nor_its_name(
    split_folders, tmp_path, exported_learner, other_model, model
):
    options = {"epochs": 1, "start_share": 0.5, "teacher_share": 0.5}
    expected = fitted(split_folders, tmp_path / "runs", from_start(exported_learner, **options))
    dataloaders, recipe = prepare_run(split_folders, from_start(model, **options), tmp_path)
    learner = create_learner(dataloaders, recipe)
    shutil.copytree(other_model.parent, model.parent, dirs_exist_ok=True)
    with learner.no_bar(), learner.no_logging():
        folder = fit(learner, recipe, tmp_path / "others")
    assert have_same_weights(learner, expected)
    assert (tmp_path / "runs" / folder.name).exists()


def test_weights_and_statistics_are_averaged_with_those_of_the_start():
    networks = [DeXpression.compact(2) for _ in range(2)]
    before = [{name: tensor.clone() for name, tensor in network.state_dict().items()} for network in networks]
    average_weights(*networks, share=0.25)
    for name, tensor in networks[0].state_dict().items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, 0.75 * before[0][name] + 0.25 * before[1][name], atol=1e-6)
    assert all(torch.equal(tensor, before[1][name]) for name, tensor in networks[1].state_dict().items())
