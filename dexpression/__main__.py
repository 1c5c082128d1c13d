"""The command line: python -m dexpression serve | predict | evaluate | train | crossvalidate."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from dexpression.errors import DeXpressionError
from dexpression.labels import LabelSet
from dexpression.logs import start_logging
from dexpression.reading import Detect
from dexpression.settings import Settings, describe_settings
from dexpression.training.sources import Split

if TYPE_CHECKING:
    from dexpression.training.fitting import Recipe

# The commands import what they need themselves: torch and fastai take seconds, and `--help` needs neither.


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; what the caller can mend ends it with one line on standard error and status 1."""
    start_logging()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of what fastai imports; nobody who types a command can mend it
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except DeXpressionError as error:
        sys.exit(f"dexpression: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _serve(_options: argparse.Namespace) -> None:
    settings = Settings.from_env(os.environ)  # a bad value stops here and is named
    from dexpression.serving.supervisor import serve

    start_logging(settings.log)
    serve(settings)


def _predict(options: argparse.Namespace) -> None:
    from dexpression.batch import predict_pictures
    from dexpression.prediction import Predictor

    failures = predict_pictures(
        Predictor.load(options.model), options.pictures, options.form, options.annotate, options.detect
    )
    if failures:
        sys.exit("\n".join(failures))


def _evaluate(options: argparse.Namespace) -> None:
    from dexpression.prediction import load_classifier
    from dexpression.training.evaluation import evaluate

    classifier, _ = load_classifier(options.model)
    evaluation = evaluate(classifier, options.folder, options.labels, options.split, options.truth, options.votes_file)
    print(json.dumps(evaluation.to_dict()) if options.json else evaluation.table())


def _train(options: argparse.Namespace) -> None:
    from dexpression.training.run import train

    train(options.folder, _recipe(options), options.output, options.runs, options.votes_file)


def _crossvalidate(options: argparse.Namespace) -> None:
    from dexpression.training.crossvalidation import crossvalidate

    print(crossvalidate(options.folder, _recipe(options), options.runs, options.folds, options.group_by).table())


def _recipe(options: argparse.Namespace) -> Recipe:
    from dexpression.training.fitting import Recipe

    given = {field.name: getattr(options, field.name) for field in fields(Recipe)}
    return Recipe(**{name: value for name, value in given.items() if value is not None})


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dexpression", description="Emotions on faces, on your own machine."
    )
    commands = parser.add_subparsers(required=True, metavar="serve | predict | evaluate | train | crossvalidate")
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", type=Path, default=Settings.model_path, help="(default: the shipped one)")
    label_sets = get_args(LabelSet)

    serve = commands.add_parser(
        "serve",
        help="answer HTTP; DEXPRESSION_* variables are its settings",
        description=f"Answer HTTP. Settings are environment variables:\n\n{describe_settings()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.set_defaults(command=_serve)

    predict = commands.add_parser("predict", parents=[model], help="print a line a face: path, emotion, confidence")
    predict.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE_OR_FOLDER")
    forms = predict.add_mutually_exclusive_group()
    forms.add_argument("--json", dest="form", action="store_const", const="json", help="a JSON object a picture")
    forms.add_argument("--csv", dest="form", action="store_const", const="csv", help="a row a face")
    predict.add_argument("--annotate", type=Path, metavar="DIR", help="write pictures with boxes and labels there")
    predict.add_argument("--detect", choices=get_args(Detect), default="auto", help="never: a picture is one face")
    predict.set_defaults(command=_predict, form="text")

    evaluate = commands.add_parser("evaluate", parents=[model], help="score the model on labelled faces")
    evaluate.add_argument("folder", type=Path, metavar="FOLDER", help="class folders, or fer2013.csv")
    evaluate.add_argument("--labels", choices=label_sets, help="(default: all that the model knows)")
    evaluate.add_argument("--split", choices=get_args(Split), help="where FOLDER has splits (default: valid)")
    evaluate.add_argument("--truth", choices=["labels", "votes"], default="labels", help="or what most annotators saw")
    evaluate.add_argument("--votes-file", type=Path, help="(default: ferplus.csv or fer2013new.csv beside the faces)")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.set_defaults(command=_evaluate)

    recipe = _recipe_options(label_sets)
    train = commands.add_parser(
        "train",
        parents=[recipe],
        help="train a network and export it; a stopped run goes on when the command is given again",
    )
    train.add_argument("--votes-file", type=Path, help="(default: ferplus.csv or fer2013new.csv beside the faces)")
    train.add_argument("--output", type=Path, default=Settings.model_path.parent, help="(default: model)")
    train.set_defaults(command=_train)

    crossvalidate = commands.add_parser(
        "crossvalidate", parents=[recipe], help="train and test a network a fold; splits of FOLDER are laid aside"
    )
    crossvalidate.add_argument("--folds", type=int, default=10, help="(default: 10)")
    crossvalidate.add_argument(
        "--group-by",
        type=_pattern,
        metavar="REGEX",
        help="what of a file's name stays on one side, such as the person: '^(S\\d+)_' for CK+",
    )
    crossvalidate.set_defaults(command=_crossvalidate)
    return parser


def _recipe_options(label_sets: Sequence[str]) -> argparse.ArgumentParser:
    """What train and crossvalidate share; an option left out keeps the recipe's own value."""
    recipe = argparse.ArgumentParser(add_help=False)
    recipe.add_argument("folder", type=Path, metavar="FOLDER", help="class folders, or fer2013.csv")
    recipe.add_argument("--network", choices=["compact", "paper"], help="48x48, or the paper's 224x224")
    recipe.add_argument("--labels", choices=label_sets, help="(default: seven)")
    recipe.add_argument("--epochs", type=int, help="from labels (default: 60)")
    recipe.add_argument("--batch-size", type=int)
    recipe.add_argument("--learning-rate", type=float, help="peak of the cycle")
    recipe.add_argument("--weight-decay", type=float, help="(default: 0.2)")
    recipe.add_argument("--label-smoothing", type=float)
    recipe.add_argument("--balance", type=float, help="0 weighs images alike, 1 labels alike (default: 0.5)")
    recipe.add_argument("--ema-decay", type=float)
    recipe.add_argument(
        "--votes", type=float, help="weight of the FER+ votes in the loss, if there are any (default: 1)"
    )
    recipe.add_argument("--blend", type=float, help="share of the votes' head in the answer, 0 to 1 (default: 0.35)")
    recipe.add_argument(
        "--augmentation", type=float, help="strength of turns, zoom, shifts, light and patches, 0 to 2 (default: 1)"
    )
    recipe.add_argument("--precision", choices=["auto", "bfloat16", "float32"])
    recipe.add_argument("--seed", type=int)
    recipe.add_argument("--start", type=Path, metavar="FILE", help="go on from an exported learner, not from nothing")
    recipe.add_argument(
        "--student-epochs",
        type=int,
        help="in which the network goes on, from its own answers and those of others (default: 0, labels alone)",
    )
    recipe.add_argument("--teachers", type=int, help="how many answer, itself among them (default: 3)")
    recipe.add_argument("--runs", type=Path, default=Path("runs"), help="for checkpoints (default: runs)")
    return recipe


if __name__ == "__main__":
    main()
