"""The command `label`: a table of all faces in the pictures and films of a folder or a bucket."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from dexpression.artifact.manifest import load_onnx_model_only
from dexpression.batch import others_line
from dexpression.cluster.local import label_locally
from dexpression.cluster.manifest import Block, Manifest
from dexpression.cluster.output import claim_output
from dexpression.cluster.rows import Job
from dexpression.cluster.source import URI, FolderSource, Source, find_source, nothing_in
from dexpression.cluster.table import Table
from dexpression.errors import DataError
from dexpression.faces import FaceDetector
from dexpression.files import lies_in, printable
from dexpression.kinds import FILM
from dexpression.labels import ReadingName
from dexpression.prediction import Predictor
from dexpression.reading import Detect
from dexpression.serving.capacity import choose_workers
from dexpression.settings import Settings

logger = logging.getLogger(__name__)

LOCAL, RAY = "local", "ray"  # what runs the work
FILMS_HINT = "To read the films, install the extra [video], and label into another folder."


class Options(NamedTuple):
    """How files are labelled."""

    reading: ReadingName | None = None  # by default, the first of the model
    detect: Detect = "auto"
    on: str = LOCAL  # or `ray`, or `ray:HOST:PORT`
    workers: int | None = None  # by default, as many as cores and memory allow, or as many as the cluster has
    update: bool = False  # list the source again, and label the files that are new


def label(given: str, output: Path, model: Path, options: Options) -> None:
    """Label the files of a folder or a URI into a table, and print what the table has then.

    What an earlier call with the same arguments has done is not done again. Raises DataError, which says what of the
    source, of the output or of the arguments cannot be used, and what the model raises.
    """
    source = find_source(given)
    if URI.match(str(output)):
        raise DataError(f"{output} is no folder of this machine. Give one, or mount the bucket.")
    job = _make_job(source, model, options)
    if isinstance(source, FolderSource) and lies_in(output, Path(source.name)):
        raise DataError(f"{output} lies in {given}, whose files are labelled. Give another folder.")
    facts = {
        "source": source.name,
        "model": job.model.manifest.sha256,
        "onnx": job.model.manifest.digests["onnx"],
        "reading": job.reading,
        "detect": job.detect,
    }
    with claim_output(output, facts) as folder:
        manifest, table = Manifest(folder), Table(output, job)
        _list(source, manifest, options.update)
        blocks = manifest.blocks()
        _label(job, blocks, table, options)
        summary = table.summarise(blocks)
    if summary.others:
        print(others_line(source.name, summary.others), file=sys.stderr)
    if summary.others[FILM]:
        print(printable(f"{source.name}: {FILMS_HINT}"), file=sys.stderr)
    print(printable(f"{output}: {summary}"))


def _make_job(source: Source, path: Path, options: Options) -> Job:
    model = load_onnx_model_only(path, "labelling")
    predictor = Predictor.from_onnx_model(model, FaceDetector.load(threads=1))
    return Job(source, model, predictor.classifier.choose(options.reading), options.detect)


def _list(source: Source, manifest: Manifest, update: bool) -> None:
    """List the source for the first time or, for an update, the files that the manifest does not have."""
    known = {entry.path: entry for entry in manifest.entries()} if update else {}
    if not update and manifest.blocks():
        return
    source.check()
    logger.info("%s", printable(f"Listing {source.name} ..."))
    entries = source.list_entries()
    if not entries:
        raise nothing_in(source.name)
    new = [entry for entry in entries if entry.path not in known]
    if changed := sum(entry != known.get(entry.path, entry) for entry in entries):
        logger.info("Files that have changed since they were listed, and keep their rows: %d.", changed)
    logger.info("New files: %d.", len(new))
    if new:
        manifest.add(new)


def _label(job: Job, blocks: list[Block], table: Table, options: Options) -> None:
    missing = table.missing(blocks)
    if not missing:
        return
    job.source.check()
    files, left = (sum(block.files for block in some) for some in (blocks, missing))
    engine, _, address = options.on.partition(":")
    if engine == RAY:
        logger.info("%s", printable(f"Joining the Ray cluster at {address} ..." if address else "Starting Ray ..."))
    try:
        with tqdm(total=files, initial=files - left, unit="file", disable=None) as bar:
            if engine == RAY:
                from dexpression.cluster.on_ray import label_on_ray

                label_on_ray(job, missing, table, options.workers, bar.update, address)
            else:
                label_locally(job, missing, table, options.workers or choose_workers(Settings()).count, bar.update)
    except KeyboardInterrupt:
        left = sum(block.files for block in table.missing(blocks))
        logger.info("%d of %d files are labelled. The same command goes on.", files - left, files)
        raise
