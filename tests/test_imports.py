"""Which folders of the package may import each other, and which library may be imported where."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support.server import ROOT

PACKAGE = ROOT / "dexpression"
FOLDERS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


class Import(NamedTuple):
    """One import of one name, such as `flask.Flask` by `web/app.py`."""

    folder: str  # of the importing module; `root` for dexpression/ itself
    module: str  # the importing module, such as web/app.py
    name: list[str]  # the imported name, split at its dots
    deferred: bool  # inside a function or under TYPE_CHECKING, so that importing the module does not run it


def find_imports(node: ast.AST, deferred: bool = False) -> Iterator[tuple[str, bool]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, deferred) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "This test cannot follow relative imports."
        yield from ((f"{node.module}.{alias.name}", deferred) for alias in node.names)
    deferred |= isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    deferred |= isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    for child in ast.iter_child_nodes(node):
        yield from find_imports(child, deferred)


MODULES = {path.relative_to(PACKAGE): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
IMPORTS = [
    Import(path.parent.name or "root", path.as_posix(), name.split("."), deferred)
    for path, source in MODULES.items()
    for name, deferred in find_imports(ast.parse(source))
]
OWN = [(found, found.name[1]) for found in IMPORTS if found.name[0] == "dexpression"]

NEVER = {
    "artifact": {"training"},
    "web": {"network", "artifact", "training", "video", "cluster"},
    "training": {"web", "serving", "cluster"},
    "video": {"network", "artifact", "training", "web", "serving", "cluster"},
    "cluster": {"network", "training", "web"},
}
# Modules of the root that import a folder, but not before a command or a model needs it.
DEFERRED = {
    "__main__.py": {"web", "serving", "training", "video", "cluster", "artifact"},
    "prediction.py": {"network", "artifact", "video"},
    "wsgi.py": {"artifact"},
}
# Modules that are the app: under other WSGI servers, and on Ray.
AT_ONCE = {"wsgi.py": {"web"}, "cluster/replica.py": {"web"}, "cluster/bodies.py": {"web"}}


@pytest.mark.parametrize("folder", NEVER)
def test_a_folder_never_imports_the_folders_that_are_forbidden_to_it(folder):
    forbidden = [(found, part) for found, part in OWN if found.folder == folder and part in NEVER[folder]]
    assert [found for found, part in forbidden if part not in AT_ONCE.get(found.module, ())] == []


def test_the_network_imports_only_pictures_and_labels():
    allowed = {"network", "picture", "labels"}
    assert [found for found, part in OWN if found.folder == "network" and part not in allowed] == []


def test_modules_of_the_root_import_folders_only_when_they_are_needed():
    found = [(found, part) for found, part in OWN if found.folder == "root" and part in FOLDERS]
    others = [(one, part) for one, part in found if part not in AT_ONCE.get(one.module, ())]
    assert [one for one, part in others if not (one.deferred and part in DEFERRED.get(one.module, ()))] == []


PLACES = {
    "torch fastai fastcore fasttransform torchvision": {"network", "training", "figures"},
    "flask flask_cors flask_swagger_ui pydantic pydantic_core werkzeug": {"web"},
    "waitress": {"serving"},
    "prometheus_client": {"web", "serving/shared_metrics.py"},
    "matplotlib": {"figures"},
    "onnxruntime": {"engine.py", "artifact/quantisation.py"},
    "onnx": {"artifact/quantisation.py"},
    "google": {"artifact/onnx_schema.py"},
    "safetensors": {"artifact/weights.py"},
    "sklearn": {"training"},
    "cv2": {"video"},
    "pyarrow": {"cluster"},
    "a2wsgi ray": {"cluster"},
}


@pytest.mark.parametrize("libraries", PLACES)
def test_a_library_is_imported_only_in_its_places(libraries):
    deferred = {"artifact", "root"} if "torch" in libraries.split() else set()
    for found in IMPORTS:
        if found.name[0] in libraries.split():
            places = PLACES[libraries] | (deferred if found.deferred else set())
            assert places & {found.folder, found.module}, found


# What `evaluate` and `--help` need, which do without the packages for training.
WITHOUT_TORCH = (
    "comparison", "conditions", "crops", "digests", "evaluation", "face_set", "folders", "groups", "recipe", "sources",
    "tables",
)  # fmt: skip
ARTIFACT = tuple(path.stem for path in sorted((PACKAGE / "artifact").glob("*.py")))


@pytest.mark.parametrize(("folder", "names"), [("artifact", ARTIFACT), ("training", WITHOUT_TORCH)])
def test_modules_that_serving_and_evaluation_need_load_torch_only_when_they_need_it(folder, names):
    modules = ", ".join(f"dexpression.{folder}.{name}" for name in names)
    program = f"import sys, {modules}; sys.exit(not sys.modules.keys().isdisjoint({{'torch', 'fastai', 'sklearn'}}))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
