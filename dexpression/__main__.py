"""The command line: dexpression serve | predict | video | label | page | evaluate | train | crossvalidate."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from dexpression import __version__
from dexpression.errors import DeXpressionError
from dexpression.extras import require_extra
from dexpression.files import printable
from dexpression.labels import READINGS, LabelSet
from dexpression.logs import PACKAGE, start_logging
from dexpression.options import plain_meaning
from dexpression.reading import EVERY_SECONDS, Detect
from dexpression.service_links import find_service_links
from dexpression.settings import Settings, describe_settings
from dexpression.shipped import default_model_path

if TYPE_CHECKING:
    from dexpression.training.conditions import Robustness
    from dexpression.training.evaluation import Evaluation
    from dexpression.training.groups import GroupScores
    from dexpression.training.recipe import Recipe

    Commands = argparse._SubParsersAction["_Parser"]

MAX_EVERY_SECONDS = 3600

# Each command imports what it needs, because torch and fastai take seconds and `predict` and `--help` need neither.


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an error that the caller can fix ends it with one line on standard error and status 1."""
    _open_streams()
    start_logging()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # fastai's imports warn about what a user of the command line cannot change
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
        sys.stdout.flush()
    except DeXpressionError as error:
        sys.exit(f"dexpression: {printable(error)}")
    except OSError as error:  # of standard output, mostly: a full disk, or a reader such as `head` that has enough
        sys.exit(1 if isinstance(error, BrokenPipeError) else f"dexpression: {printable(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        _flush_output()


def _open_streams() -> None:
    """Write text in UTF-8, whatever the encoding of the console or the pipe; open what is closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _flush_output() -> None:
    """Write what standard output still holds. What fails is dropped, or Python would try again when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _serve(_options: argparse.Namespace) -> None:
    settings = Settings.from_env(os.environ)
    from dexpression.serving.supervisor import serve

    start_logging(settings.log, settings.log_level)
    logger = logging.getLogger(PACKAGE)
    if links := find_service_links(os.environ):
        logger.info("These variables are passed over, as links to Services of Kubernetes: %s.", ", ".join(links))
    try:
        serve(settings)
    except DeXpressionError as error:
        logger.error("%s", error)  # a line of the log, which may be in JSON
        sys.exit(1)


def _predict(options: argparse.Namespace) -> None:
    from dexpression.batch import predict_pictures
    from dexpression.prediction import Predictor

    failures = predict_pictures(
        Predictor.load(options.model),
        options.pictures,
        options.output_format,
        options.annotate,
        options.detect,
        options.reading,
        options.sort_into,
        options.explain,
    )
    if failures:
        sys.exit("\n".join(failures))


def _video(options: argparse.Namespace) -> None:
    require_extra("video", "Reading films")
    from dexpression.prediction import Predictor
    from dexpression.video.films import Options, read_films

    chosen = Options(**{name: getattr(options, name) for name in Options._fields})
    if failures := read_films(Predictor.load(options.model), options.films, chosen):
        sys.exit("\n".join(failures))


def _label(options: argparse.Namespace) -> None:
    libraries = ["pyarrow"] if options.on == "local" else ["pyarrow", "ray"]
    require_extra("cluster", "Labelling files into a table", libraries)
    from dexpression.cluster.label import Options, label

    chosen = Options(**{name: getattr(options, name) for name in Options._fields})
    label(options.source, options.output, options.model, chosen)


def _page(options: argparse.Namespace) -> None:
    from dexpression.artifact.manifest import load_onnx_model_only
    from dexpression.engine import onnx_backend
    from dexpression.prediction import FaceClassifier
    from dexpression.web.device_page import DeviceModel, write_device_page

    content, manifest = load_onnx_model_only(options.model, "the page")
    reading = FaceClassifier.of_export(onnx_backend(content), manifest).choose(options.reading)
    readout = manifest.readouts and manifest.readouts[reading]
    model = DeviceModel(content, manifest.labels, manifest.image_size, reading, manifest.sha256, readout)
    write_device_page(options.folder, options.ort, model)


def _evaluate(options: argparse.Namespace) -> None:
    from dexpression.prediction import load_classifier
    from dexpression.training.conditions import evaluate_conditions
    from dexpression.training.digests import warn_of_overlap
    from dexpression.training.evaluation import evaluate, labelled_faces
    from dexpression.training.groups import evaluate_groups

    classifier, manifest = load_classifier(options.model)
    truth = "the FER+ majority" if options.truth == "votes" else "the labels"
    logging.getLogger(PACKAGE).info("The reading %s is compared with %s.", classifier.choose(options.reading), truth)
    faces, labels = labelled_faces(
        classifier, options.folder, options.labels, options.split, options.truth, options.votes_file, options.detect
    )
    warn_of_overlap(manifest, faces)
    evaluation: Evaluation | Robustness | GroupScores
    if options.conditions:
        evaluation = evaluate_conditions(classifier, faces, labels, options.reading, options.detect)
    elif options.groups:
        evaluation = evaluate_groups(classifier, faces, labels, options.groups, options.reading)
    else:
        evaluation = evaluate(classifier, faces, labels, options.reading)
    print(json.dumps(evaluation.to_dict(), allow_nan=False) if options.json else evaluation.table())


def _train(options: argparse.Namespace) -> None:
    require_extra("train", "Training")
    recipe = _recipe(options)
    from dexpression.training.run import train

    train(options.folder, recipe, options.output, options.runs, options.votes_file, options.force)


def _crossvalidate(options: argparse.Namespace) -> None:
    require_extra("train", "Cross-validation")
    recipe = _recipe(options)
    from dexpression.training.crossvalidation import crossvalidate

    print(crossvalidate(options.folder, recipe, options.runs, options.folds, options.group_by).table())


def _recipe(options: argparse.Namespace) -> Recipe:
    from dexpression.training.recipe import Recipe

    return Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from error


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= MAX_EVERY_SECONDS:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to {MAX_EVERY_SECONDS}")
    return seconds


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return count


def _engine(text: str) -> str:
    if not re.fullmatch("local|ray(:.+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not local, ray or ray:HOST:PORT")
    return text


class _Parser(argparse.ArgumentParser):
    """Shows arguments in its messages as printable text."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _parser() -> _Parser:
    parser = _Parser(prog="dexpression", description="Read the emotions on faces, on your own machine.")
    parser.add_argument("--version", action="version", version=f"dexpression {__version__}")
    names = "serve | predict | video | label | page | evaluate | train | crossvalidate"
    commands = parser.add_subparsers(required=True, metavar=names)
    model, recipe = _model_parser(), _recipe_parser()
    _add_serve(commands)
    _add_predict(commands, model)
    _add_video(commands, model)
    _add_label(commands, model)
    _add_page(commands, model)
    _add_evaluate(commands, model)
    _add_train(commands, recipe)
    _add_crossvalidate(commands, recipe)
    return parser


def _add_serve(commands: Commands) -> None:
    serve = commands.add_parser(
        "serve",
        help="answer HTTP requests; its settings are DEXPRESSION_* variables",
        description=f"Answer HTTP requests. Settings are environment variables:\n\n{describe_settings()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.set_defaults(command=_serve)


def _add_predict(commands: Commands, model: _Parser) -> None:
    predict = commands.add_parser("predict", parents=[model], help="print one line per face: path, emotion, confidence")
    predict.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE_OR_FOLDER")
    _add_formats(predict, "picture")
    predict.add_argument("--annotate", type=Path, metavar="DIR", help="write copies with boxes and labels into DIR")
    predict.add_argument(
        "--explain",
        action="store_true",
        help="show in the copies and in --json where the face speaks for the answer (pink) or against it (green)",
    )
    predict.add_argument(
        "--sort-into",
        type=Path,
        metavar="DIR",
        help="write each face into a folder of its label in DIR, such as DIR/happy; move the wrong ones, and train on "
        "DIR",
    )
    _add_detect(
        predict,
        get_args(Detect),
        "; thorough: in all, without a quick search first; tiles: find small faces of large pictures too, which takes "
        "longer",
    )
    predict.set_defaults(command=_predict)


def _add_video(commands: Commands, model: _Parser) -> None:
    video = commands.add_parser(
        "video",
        parents=[model],
        help="print one line per face of each frame of a film: path, time, track, emotion, confidence",
        description="Read films: MP4, MOV, WebM, MKV or AVI. Faces keep the number of their track from frame to frame.",
    )
    video.add_argument("films", nargs="+", type=Path, metavar="FILM")
    video.add_argument(
        "--every",
        type=_seconds,
        default=EVERY_SECONDS,
        metavar="SECONDS",
        help=f"seconds from one frame that is read to the next; 0: all frames (default: {EVERY_SECONDS})",
    )
    _add_formats(video, "frame, and one with the summary of each track")
    video.add_argument(
        "--annotate",
        dest="annotated_path",
        type=Path,
        metavar="OUT.mp4",
        help="write a film of the frames that are read, with boxes, tracks and labels",
    )
    video.add_argument(
        "--plot",
        dest="plot_path",
        type=Path,
        metavar="OUT.png",
        help="draw the probabilities over time, one panel per track",
    )
    video.add_argument(
        "--faces", dest="max_faces", type=_count, metavar="N", help="read the N largest faces of a frame (default: all)"
    )
    video.set_defaults(command=_video)


def _add_label(commands: Commands, model: _Parser) -> None:
    label = commands.add_parser(
        "label",
        parents=[model],
        help="write a table (Parquet) of the pictures and films of a folder or a bucket; continues what was stopped",
        description="Write a table in Parquet, with one row per file, and of a film per minute. The same command again "
        "continues a run.",
    )
    label.add_argument("source", metavar="SOURCE", help="a folder, or a URI such as s3://bucket/folder")
    label.add_argument("output", type=Path, metavar="OUTPUT", help="folder for the table")
    label.add_argument(
        "--on",
        type=_engine,
        default="local",
        metavar="local|ray[:HOST:PORT]",
        help="local: processes of this machine (default); ray: Ray, which is started for the run; ray:HOST:PORT: the "
        "running Ray cluster at that address, of which this machine is a node",
    )
    label.add_argument(
        "--workers",
        type=_count,
        metavar="N",
        help="processes (default: as many as cores and memory allow, or as many as the cluster has processors)",
    )
    label.add_argument("--update", action="store_true", help="list SOURCE again, and label the files that are new")
    _add_detect(label, get_args(Detect))
    label.set_defaults(command=_label)


def _add_page(commands: Commands, model: _Parser) -> None:
    page = commands.add_parser(
        "page",
        parents=[model],
        help="write the page as a folder for any web server, which reads faces in the browser and sends no picture",
    )
    page.add_argument("folder", type=Path, metavar="OUT", help="folder for the page")
    page.add_argument(
        "--ort",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder dist of onnxruntime-web, such as node_modules/onnxruntime-web/dist",
    )
    page.set_defaults(command=_page)


def _add_evaluate(commands: Commands, model: _Parser) -> None:
    from dexpression.training.face_set import CropDetect, Split

    evaluate = commands.add_parser("evaluate", parents=[model], help="score the model on labelled faces")
    evaluate.add_argument("folder", type=Path, metavar="FOLDER", help="class folders, or fer2013.csv")
    evaluate.add_argument("--labels", choices=get_args(LabelSet), help="labels to score (default: all of the model)")
    evaluate.add_argument(
        "--split", choices=get_args(Split), help="split to score (default: valid, if there are splits)"
    )
    evaluate.add_argument(
        "--truth",
        choices=["labels", "votes"],
        default="labels",
        help="score by labels or by the FER+ majority vote (default: labels)",
    )
    _add_votes_file(evaluate)
    _add_detect(evaluate, get_args(CropDetect))
    kinds = evaluate.add_mutually_exclusive_group()
    kinds.add_argument(
        "--groups", type=Path, metavar="CSV", help="score each group of people; the columns are file and group"
    )
    kinds.add_argument(
        "--conditions", action="store_true", help="score the same faces blurred, dark, small, turned, covered and so on"
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.set_defaults(command=_evaluate)


def _add_train(commands: Commands, recipe: _Parser) -> None:
    train = commands.add_parser(
        "train", parents=[recipe], help="train a network and export it; a run that was stopped continues"
    )
    _add_votes_file(train)
    train.add_argument("--output", type=Path, default=Path("model"), help="folder for the export (default: model)")
    train.add_argument(
        "--force", action="store_true", help="replace the export in the folder even if the new model is worse"
    )
    train.set_defaults(command=_train)


def _add_crossvalidate(commands: Commands, recipe: _Parser) -> None:
    crossvalidate = commands.add_parser(
        "crossvalidate", parents=[recipe], help="train and test one network per fold; splits of FOLDER are ignored"
    )
    crossvalidate.add_argument("--folds", type=int, default=10, help="number of folds (default: 10)")
    crossvalidate.add_argument(
        "--group-by",
        type=_pattern,
        metavar="REGEX",
        help="part of a file's name, such as the person, that must not be in train and test: '^(S\\d+)_' for CK+",
    )
    crossvalidate.set_defaults(command=_crossvalidate)


def _model_parser() -> _Parser:
    """The options --model and --reading of predict, video, label and evaluate."""
    parser = _Parser(add_help=False)
    parser.add_argument(
        "--model",
        type=Path,
        default=default_model_path(),
        help="folder of an export, its .onnx file, or its .safetensors file to predict with PyTorch "
        "(default: the model that comes with DeXpression)",
    )
    parser.add_argument(
        "--reading",
        choices=READINGS,
        help="people: what most people see in a face; labels: as the training data is labelled "
        "(default: the first that the model has)",
    )
    return parser


def _add_formats(command: _Parser, unit: str) -> None:
    """The options --json, of one object per unit, and --csv."""
    formats = command.add_mutually_exclusive_group()
    for name, help_text in (("json", f"print one JSON object per {unit}"), ("csv", "print one row per face")):
        formats.add_argument(f"--{name}", dest="output_format", action="store_const", const=name, help=help_text)
    command.set_defaults(output_format="text")


def _add_detect(command: _Parser, choices: Sequence[str], more: str = "") -> None:
    command.add_argument(
        "--detect",
        choices=choices,
        default="auto",
        help="auto: detect faces in pictures over 64x64 pixels; always: in all; never: a picture is one face"
        f"{more} (default: auto)",
    )


def _add_votes_file(command: _Parser) -> None:
    command.add_argument(
        "--votes-file", type=Path, help="FER+ votes (default: ferplus.csv or fer2013new.csv beside the faces)"
    )


def _recipe_parser() -> _Parser:
    """The options of train and crossvalidate, one for each field of `Recipe`."""
    from dexpression.training.recipe import Recipe

    parser = _Parser(add_help=False)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="class folders, or fer2013.csv")
    for field in fields(Recipe):
        _add_option(parser, field)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for checkpoints (default: runs)")
    return parser


def _add_option(parser: _Parser, field: Field[Any]) -> None:
    default = field.default
    name = f"--{field.name.replace('_', '-')}"
    if field.metadata["parse"] is bool:
        parser.add_argument(name, action="store_true", help=plain_meaning(field))
        return
    parser.add_argument(
        name,
        default=default,
        choices=field.metadata["choices"] or None,
        type=field.metadata["parse"],
        help=f"{plain_meaning(field)} (default: {default})",
    )


if __name__ == "__main__":
    main()
