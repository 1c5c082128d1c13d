"""The command line: python -m dexpression serve | predict | evaluate | train."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import get_args

from dexpression.errors import DeXpressionError
from dexpression.labels import FIVE, LabelSet
from dexpression.settings import Settings
from dexpression.sources import Split

# The commands import what they need themselves: torch and fastai take seconds, and `--help` needs neither.


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; what the caller can mend ends it with one line on standard error and status 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
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
    from dexpression.serving import serve

    serve(settings)


def _predict(options: argparse.Namespace) -> None:
    from dexpression.picture import read_picture
    from dexpression.prediction import Predictor

    predictor = Predictor.load(options.model)
    failed = False
    for path in options.pictures:
        try:
            [prediction] = predictor.predict([read_picture(path)])
        except DeXpressionError as error:
            failed = True
            print(f"{path}: {error}", file=sys.stderr)
        else:
            prediction = prediction.among(FIVE)
            print(f"{path}\t{prediction.emotion}\t{prediction.confidence:.2f}")
    if failed:
        sys.exit(1)


def _evaluate(options: argparse.Namespace) -> None:
    from dexpression.evaluation import evaluate
    from dexpression.prediction import Predictor

    evaluation = evaluate(Predictor.load(options.model), options.folder, options.labels, options.split)
    print(json.dumps(evaluation.to_dict()) if options.json else evaluation.table())


def _train(options: argparse.Namespace) -> None:
    from dexpression.training import Recipe, train

    given = {field.name: getattr(options, field.name) for field in fields(Recipe)}
    recipe = Recipe(**{name: value for name, value in given.items() if value is not None})
    train(options.folder, recipe, options.output, options.runs, options.votes_file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dexpression", description="Emotions on faces, on your own machine."
    )
    commands = parser.add_subparsers(required=True, metavar="serve | predict | evaluate | train")
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", type=Path, default=Settings.model_path, help="(default: the shipped one)")
    label_sets = get_args(LabelSet)

    serve = commands.add_parser("serve", help="answer HTTP; DEXPRESSION_* variables are its settings")
    serve.set_defaults(command=_serve)

    predict = commands.add_parser("predict", parents=[model], help="print a line a picture: path, emotion, confidence")
    predict.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    predict.set_defaults(command=_predict)

    evaluate = commands.add_parser("evaluate", parents=[model], help="score the model on labelled faces")
    evaluate.add_argument("folder", type=Path, metavar="FOLDER", help="class folders, or fer2013.csv")
    evaluate.add_argument("--labels", choices=label_sets, help="(default: all that the model knows)")
    evaluate.add_argument("--split", choices=get_args(Split), help="where FOLDER has splits (default: valid)")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.set_defaults(command=_evaluate)

    _add_train(commands, label_sets)
    return parser


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser], label_sets: Sequence[str]) -> None:
    train = commands.add_parser(
        "train",
        help="train a network and export it; a stopped run goes on when the command is given again",
    )
    train.add_argument("folder", type=Path, metavar="FOLDER", help="class folders, or fer2013.csv")
    train.add_argument("--network", choices=["compact", "paper"], help="48x48, or the paper's 224x224")
    train.add_argument("--labels", choices=label_sets, help="(default: seven)")
    train.add_argument("--epochs", type=int)
    train.add_argument("--batch-size", type=int)
    train.add_argument("--learning-rate", type=float, help="peak of the cycle")
    train.add_argument("--weight-decay", type=float)
    train.add_argument("--label-smoothing", type=float)
    train.add_argument("--balance", type=float, help="0 weighs images alike, 1 labels alike (default: 0.5)")
    train.add_argument("--ema-decay", type=float)
    train.add_argument(
        "--votes", type=float, help="weight of the FER+ votes in the loss, where there are any (default: 1)"
    )
    train.add_argument("--blend", type=float, help="share of the votes' head in the answer, 0 to 1")
    train.add_argument("--votes-file", type=Path, help="(default: ferplus.csv or fer2013new.csv beside the faces)")
    train.add_argument("--precision", choices=["auto", "bfloat16", "float32"])
    train.add_argument("--seed", type=int)
    train.add_argument("--start", type=Path, metavar="FILE", help="go on from an exported learner, not from nothing")
    train.add_argument("--output", type=Path, default=Settings.model_path.parent, help="(default: model)")
    train.add_argument("--runs", type=Path, default=Path("runs"), help="for checkpoints (default: runs)")
    train.set_defaults(command=_train)


if __name__ == "__main__":
    main()
