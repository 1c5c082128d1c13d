"""Unpickle a learner and nothing else: a pickle is a program, and this is all that ours may say.

A list of allowed names is not enough. An instance on the stack can be called as well, and the state that a pickle gives
to it decides what that call does: from fastai's `Callback`, whose call looks an attribute up, there is a way to every
class of the process. So only a handful of harmless functions may be called, only known classes are made without being
called, and state is given to instances of those alone, past whatever the pickle has put into them.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from types import SimpleNamespace
from typing import Any, ClassVar

from dexpression.errors import BrokenLearner, ForeignClass

# May be called, with any arguments: each only makes the value that it is named for.
CALLED = {
    "builtins": {"slice"},
    "collections": {"OrderedDict"},
    "random": {"Random"},
    "torch": {"device"},
    "torch._utils": {"_rebuild_parameter", "_rebuild_tensor_v2"},
}

# May be made, by `__new__` without arguments of note, and be given state.
MADE = {
    "dexpression.network.architecture": {"Convolution", "DeXpression", "FeatEx", "ResidualFeatEx"},
    "dexpression.network.transforms": {"PlaceholderLabel", "ReadFace"},
    "dexpression.network.loss": {"EmotionLoss"},
    "fastai.callback.core": {"TrainEvalCallback"},
    "fastai.data.core": {"DataLoaders", "Datasets", "TfmdDL", "TfmdLists"},
    "fastai.data.load": {"_FakeLoader"},
    "fastai.data.transforms": {"Categorize", "CategoryMap", "IntToFloatTensor", "Normalize", "ToTensor"},
    "fastai.learner": {"CastToTensor", "Learner"},
    "fastcore.foundation": {"L"},
    "fasttransform.transform": {"Pipeline"},
    "torch.nn.modules.activation": {"ReLU"},
    "torch.nn.modules.batchnorm": {"BatchNorm2d"},
    "torch.nn.modules.container": {"Sequential"},
    "torch.nn.modules.conv": {"Conv2d"},
    "torch.nn.modules.dropout": {"Dropout"},
    "torch.nn.modules.flatten": {"Flatten", "Unflatten"},
    "torch.nn.modules.linear": {"Linear"},
    "torch.nn.modules.normalization": {"LocalResponseNorm"},
    "torch.nn.modules.pooling": {"AdaptiveAvgPool2d", "MaxPool2d"},
}

# May be referred to.
NAMED = {
    "builtins": {"object", "str", "tuple"},
    "fastai.data.load": {"_wif"},
    "fastai.optimizer": {"Adam"},
    "fastai.torch_core": {"TensorCategory", "TensorImageBW", "trainable_params"},
    "fastai.vision.core": {"PILImageBW"},
    "fastcore.imports": {"noop"},
}


def unpickle_learner(content: bytes) -> Any:
    """What the archive that `torch.save` wrote holds; ForeignClass before anything runs that a learner does without."""
    if not zipfile.is_zipfile(io.BytesIO(content)):  # torch would take a tar archive, and unpack it on disk
        raise BrokenLearner("It is no archive that torch wrote.")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > len(content):  # torch packs nothing
            raise BrokenLearner("It unpacks to more than it is.")
        if any(name.endswith("constants.pkl") for name in archive.namelist()):  # torch would run it as TorchScript
            raise ForeignClass("The exported file holds a TorchScript program.")
    import torch

    return torch.load(io.BytesIO(content), map_location="cpu", pickle_module=_checked_pickle, weights_only=False)


# The interpreter that is written in Python: the one in C lets nobody see what it is about to call.
_Unpickler: Any = pickle._Unpickler


# They call by other ways than those below; the last takes as much memory as the file says that it wants.
REFUSED = (
    pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.BYTEARRAY8,
)  # fmt: skip


class _LearnerUnpickler(_Unpickler):
    dispatch: ClassVar[dict[int, Any]] = {
        opcode: load for opcode, load in _Unpickler.dispatch.items() if bytes([opcode]) not in REFUSED
    }

    def find_class(self, module: str, name: str) -> Any:
        if not any(name in names.get(module, ()) for names in (CALLED, MADE, NAMED)):
            raise ForeignClass(f"The exported file names {module}.{name}, which no learner of ours needs.")
        return super().find_class(module, name)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _known(self.stack[-1], CALLED)(*arguments)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        made = _known(self.stack[-1], MADE)
        self.stack[-1] = made.__new__(made, *arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        instance = self.stack[-1]
        kind = _known(type(instance), MADE, CALLED)
        set_state = getattr(kind, "__setstate__", None)  # of the class: an instance's own would be the pickle's
        if set_state:
            set_state(instance, state)
        else:
            vars(instance).update(state)

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build


def _known(value: Any, *lists: dict[str, set[str]]) -> Any:
    """`value` itself, if it is one of those listed and no instance that only says so."""
    kind = type(value)
    name = value.__qualname__ if issubclass(kind, type) or kind is type(_known) else None
    if name is None or not any(name in names.get(value.__module__, ()) for names in lists):
        raise ForeignClass(f"The exported file calls or changes {kind.__name__}, which no learner of ours does.")
    return value


def _load_checked(*_: Any, **__: Any) -> Any:
    raise BrokenLearner("It is no archive that torch wrote.")  # torch asks for this with its oldest format alone


_checked_pickle = SimpleNamespace(Unpickler=_LearnerUnpickler, load=_load_checked, __name__="checked_pickle")
