"""Drawn faces, and the folders and files that people keep faces in."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from fastai.learner import Learner
from fastai.torch_core import default_device
from PIL import Image, ImageDraw
from skimage.data import astronaut

from dexpression.artifact.export import export_learner
from dexpression.artifact.quantisation import to_onnx
from dexpression.labels import FER2013_ORDER, SEVEN
from dexpression.network.architecture import DeXpression
from dexpression.network.loss import EmotionLoss
from dexpression.training.data import inference_dataloaders

if TYPE_CHECKING:
    from running import Server

default_device(use=False)  # a GPU would train and predict a little differently every time
torch.set_num_threads(1)  # tests make small batches; several threads would only wait for each other

# Where the mouth's arc begins and ends, in degrees, and how far the eyes are open: enough to tell the drawings apart.
MOUTHS = {
    "ANGRY": (180, 360, 1),
    "DISGUST": (200, 300, 2),
    "FEAR": (0, 360, 5),
    "HAPPY": (0, 180, 3),
    "NEUTRAL": (80, 100, 3),
    "SAD": (220, 320, 2),
    "SURPRISE": (0, 360, 6),
}


def draw_face(label: str, seed: int, size: int = 48) -> Image.Image:
    """A grey face, a little different for every seed."""
    random = np.random.default_rng([SEVEN.index(label), seed])
    start, end, eye = MOUTHS[label]
    image = Image.new("L", (size, size), int(random.integers(10, 60)))
    draw = ImageDraw.Draw(image)
    unit = size / 48
    left, top = (float(value) for value in random.uniform(-2, 2, 2) * unit)
    draw.ellipse(
        [left + 6 * unit, top + 4 * unit, left + 42 * unit, top + 44 * unit], fill=int(random.integers(150, 220))
    )
    for x in (17, 31):
        draw.ellipse([left + (x - eye) * unit, top + 17 * unit, left + (x + eye) * unit, top + 21 * unit], fill=20)
    box = [left + 16 * unit, top + 28 * unit, left + 32 * unit, top + 38 * unit]
    draw.arc(box, start, end, fill=20, width=max(1, round(2 * unit)))
    return image


def encode(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


# What a camera does to the pixels before it writes this EXIF orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encode_turned(image: Image.Image, orientation: int, file_format: str = "PNG") -> bytes:
    """As a camera that was held some way stores an upright picture: turned, with the EXIF that says so."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image.transpose(TURNS[orientation]) if orientation in TURNS else image
    return encode(stored, file_format, exif=exif)


MULTIPART = "multipart/form-data; boundary=cut"


def multipart(*contents: bytes, name: str = "face.png") -> bytes:
    """The body that `curl -F file=@face.png` sends; werkzeug's own test client would put a large one on disk."""
    head = f'--cut\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    return b"".join(head + content + b"\r\n" for content in contents) + b"--cut--\r\n"


def write_class_folders(root: Path, count: int, labels: tuple[str, ...] = SEVEN, seed: int = 0) -> Path:
    """root/happy/00003.png ..., `count` a label; numbered through, as the rows of fer2013.csv are."""
    row = seed * 1000
    for label in labels:
        (root / label.lower()).mkdir(parents=True)
        for number in range(count):
            draw_face(label, seed * 100 + number).save(root / label.lower() / f"{row:05}.png")
            row += 1
    return root


@pytest.fixture(scope="session")
def exported_learner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported learner of seven labels that has learnt nothing, but answers differently to different faces."""
    torch.manual_seed(0)
    network = DeXpression.compact(7).eval()
    faces = torch.stack([torch.from_numpy(np.array(draw_face(label, 0))) for label in SEVEN]).float() / 64 - 2
    with torch.no_grad():  # spread the logits, which an untrained network leaves next to each other
        logits, linear = network(faces[:, None]), network.classifier[-1]
        linear.bias.copy_((linear.bias - logits.mean(0)) / logits.std(0))
        linear.weight.div_(logits.std(0)[:, None])
    folder = tmp_path_factory.mktemp("model")
    learner = Learner(inference_dataloaders(SEVEN, 48), network, loss_func=EmotionLoss())
    export_learner(learner, folder, 48, {}, to_onnx(learner, 48).SerializeToString())
    return folder / "dexpression.pkl"


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another export, of other weights."""
    torch.manual_seed(1)
    learner = Learner(inference_dataloaders(SEVEN, 48), DeXpression.compact(7).eval(), loss_func=EmotionLoss())
    folder = tmp_path_factory.mktemp("other")
    export_learner(learner, folder, 48, {}, to_onnx(learner, 48).SerializeToString())
    return folder / "dexpression.pkl"


@pytest.fixture
def model(exported_learner: Path, tmp_path: Path) -> Path:
    """A copy of that export, to be changed."""
    return Path(shutil.copytree(exported_learner.parent, tmp_path / "model")) / exported_learner.name


@pytest.fixture
def server(model: Path) -> Iterator[Server]:
    """A server of its own for a test, with that copy."""
    from running import Server

    server = Server(model)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def portrait() -> Image.Image:
    """Eileen Collins, NASA, public domain: 512x512 pixels, one face, HAPPY, at (178, 63) to (268, 176)."""
    return Image.fromarray(astronaut())


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """A folder a class, ten faces each."""
    return write_class_folders(tmp_path / "faces", 10)


@pytest.fixture
def split_folders(tmp_path: Path) -> Path:
    """train/ and valid/ above a folder a class."""
    write_class_folders(tmp_path / "faces" / "train", 6)
    write_class_folders(tmp_path / "faces" / "valid", 2, seed=1)
    return tmp_path / "faces"


@pytest.fixture
def write_table(tmp_path: Path) -> Callable[..., Path]:
    """Write fer2013.csv: `count` faces a label, every fifth one in PublicTest."""

    def write(count: int = 10, usage: bool = True) -> Path:
        lines = ["emotion,pixels,Usage" if usage else "emotion,pixels"]
        for number, label in enumerate(FER2013_ORDER):
            for seed in range(count):
                pixels = " ".join(map(str, np.asarray(draw_face(label, seed)).ravel()))
                end = f",{'PublicTest' if seed % 5 == 0 else 'Training'}" if usage else ""
                lines.append(f"{number},{pixels}{end}")
        table = tmp_path / "fer2013.csv"
        table.write_text("\n".join(lines) + "\n")
        return table

    return write
