"""Read labelled faces from class folders.

happy/…                                 one folder per class (upper or lower case, with any folders below it)
train/happy/… valid/happy/… test/…      the same below one folder per split
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from dexpression.errors import DataError, MissingDecoder, PictureError
from dexpression.extras import install_command
from dexpression.files import (
    LeftOut,
    file_status,
    find_files,
    find_folders,
    is_leftover,
    read_picture_file,
)
from dexpression.labels import name_label, own_label
from dexpression.picture import PICTURE_SUFFIXES
from dexpression.training.crops import FaceCropper, NoFace
from dexpression.training.face_set import SPLITS, Face, FaceSet, Remark, Split

ToLabel = Callable[[str], str | None]  # the name of a class folder -> its label, or None for a name that cannot be one


def read_folder(folder: Path, cropper: FaceCropper, to_label: ToLabel = name_label) -> FaceSet:
    """Read the faces of class folders, with or without split folders above them; raises DataError.

    The label of a class folder follows from its name. Links are not followed.
    """
    faces: list[Face] = []
    uncertain: list[Remark] = []
    class_folders, left_out = _class_folders(folder)
    labels = {class_folder: _label_of(class_folder, folder, to_label) for _, class_folder in class_folders}
    pictures: list[tuple[Split | None, Path, Path]] = []
    for split, class_folder in class_folders:
        files, more = find_files(class_folder, None)  # the content decides what is a picture, not the name
        files = [path for path in files if not is_leftover(path.relative_to(folder))]
        left_out += more or [LeftOut(class_folder, "a folder without pictures")] * (not files)
        pictures += [(split, class_folder, path) for path in files]
    remarks = [Remark(path.relative_to(folder).as_posix(), reason) for path, reason in left_out]
    for split, class_folder, path in tqdm(pictures, unit="picture", desc=folder.name, disable=None, leave=False):
        name = path.relative_to(folder).as_posix()
        try:
            crop = cropper.crop(read_picture_file(path, follow_links=False))
        except NoFace:
            remarks.append(Remark(name, "no face was found in it"))
        except MissingDecoder:
            remarks.append(Remark(name, f"a picture whose decoder is not installed: {install_command('heic')}"))
        except PictureError:
            remarks.append(Remark(name, "not a readable picture"))
        else:
            faces.append(Face(name, labels[class_folder], split, crop.image, path))
            uncertain += [Remark(name, crop.doubt)] if crop.doubt else []
    labels_of_folders = {path.name: label for path, label in labels.items()}
    return FaceSet(folder.resolve().name, faces, remarks, uncertain, labels_of_folders)


def _class_folders(folder: Path) -> tuple[list[tuple[Split | None, Path]], list[LeftOut]]:
    """Find the class folders with their splits, and what lies beside them and is left out."""
    folders, left_out = _subfolders(folder)
    split_folders = [child for child in folders if child.name.lower() in SPLITS]
    if not split_folders:
        return [(None, child) for child in folders], left_out
    left_out += [
        LeftOut(child, "a folder beside train/, valid/ or test/") for child in folders if child not in split_folders
    ]
    found: list[tuple[Split | None, Path]] = []
    for above in split_folders:
        below, more = _subfolders(above)
        found += [(SPLITS[above.name.lower()], child) for child in below]
        left_out += more
    return found, left_out


def _subfolders(folder: Path) -> tuple[list[Path], list[LeftOut]]:
    """The folders in a folder that people made, and the links and pictures beside them, which are left out."""
    folders, left_out = find_folders(folder)
    loose = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()]
    left_out += [LeftOut(path, "a picture in no class folder") for path in loose if not path.name.startswith(".")]
    return [path for path in folders if not is_leftover(Path(path.name))], left_out


def _label_of(class_folder: Path, folder: Path, to_label: ToLabel) -> str:
    label = to_label(class_folder.name)
    if label is None:
        raise DataError(
            f"The name of the folder {class_folder.relative_to(folder)} cannot be a label. A label has "
            "1 to 40 characters, begins with a letter or a digit, and is not UNKNOWN. Rename the folder."
        )
    return label


def move_to_label(picture: Path, label: str, source: Path) -> Path:
    """Move a picture of the class folders of `source` to the folder of `label`, which is made if there is none.

    A picture whose name is taken there is renamed.
    """
    parts = picture.relative_to(source).parts
    above = source / parts[0] if len(parts) > 2 and parts[0].lower() in SPLITS else source
    target = (_folder_of(label, above) or above / label.lower()) / picture.name
    target.parent.mkdir(exist_ok=True)
    while file_status(target, follow_links=False):  # `exists` is false for a link to nothing, which must stay too
        target = target.with_stem(target.stem + "_")
    return picture.rename(target)


def _folder_of(label: str, folder: Path) -> Path | None:
    """The class folder of a label in a folder."""
    return next(
        (child for child in find_folders(folder)[0] if label in (name_label(child.name), own_label(child.name))), None
    )
