"""Unpickle an exported learner, and refuse every other pickle: a pickle is a program that can run any function.

A list of allowed names is not enough. A pickle can also set the state of an object and then call the object, and the
state decides what the call does. For example, a call of fastai's `Callback` looks up an attribute: from there, a pickle
reaches every class of the process. This module has three rules instead:

- Only a few harmless functions may be called.
- Instances are made of listed classes only, by `__new__`, without a call of the class.
- State is set on instances of listed classes only. A `__setstate__` in the instance itself, which the pickle may have
  put there, is ignored.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from types import SimpleNamespace
from typing import Any, ClassVar

from dexpression.errors import BrokenLearner, ForeignClass

# May be called, with any arguments: each only makes a value.
CALLABLE = {
    "builtins": {"slice"},
    "collections": {"OrderedDict"},
    "random": {"Random"},
    "torch": {"device"},
    "torch._utils": {"_rebuild_parameter", "_rebuild_tensor_v2"},
}

# Instances may be made by `__new__`, and their state may be set.
INSTANTIABLE = {
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

# May be referred to as a value, and neither called nor instantiated.
REFERABLE = {
    "builtins": {"object", "str", "tuple"},
    "fastai.data.load": {"_wif"},
    "fastai.optimizer": {"Adam"},
    "fastai.torch_core": {"TensorCategory", "TensorImageBW", "trainable_params"},
    "fastai.vision.core": {"PILImageBW"},
    "fastcore.imports": {"noop"},
}


def unpickle_learner(content: bytes) -> Any:
    """Load the object in an archive that `torch.save` wrote.

    Raises BrokenLearner, or ForeignClass before anything runs that a learner does not need.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):  # torch also accepts a tar archive, and unpacks it on disk
        raise BrokenLearner("The file is not an archive that torch wrote.")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > len(content):  # torch does not compress
            raise BrokenLearner("The archive would unpack to more bytes than it has.")
        if any(name.endswith("constants.pkl") for name in archive.namelist()):  # torch would run it as TorchScript
            raise ForeignClass("The exported file holds a TorchScript program.")
    import torch

    return torch.load(io.BytesIO(content), map_location="cpu", pickle_module=_checked_pickle, weights_only=False)


# The unpickler that is written in Python: the one in C has no hook before a call.
_Unpickler: Any = pickle._Unpickler


# These opcodes make calls that the methods below do not check. The last one allocates any size that the file states.
REFUSED_OPCODES = (
    pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.BYTEARRAY8,
)  # fmt: skip


class _LearnerUnpickler(_Unpickler):
    """Checks every name, call and instance of a pickle against the lists above."""

    dispatch: ClassVar[dict[int, Any]] = {
        opcode: load for opcode, load in _Unpickler.dispatch.items() if bytes([opcode]) not in REFUSED_OPCODES
    }

    def find_class(self, module: str, name: str) -> Any:
        if not any(name in names.get(module, ()) for names in (CALLABLE, INSTANTIABLE, REFERABLE)):
            raise ForeignClass(f"The exported file names {module}.{name}, which no learner of ours needs.")
        return super().find_class(module, name)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _require_listed(self.stack[-1], CALLABLE)(*arguments)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        kind = _require_listed(self.stack[-1], INSTANTIABLE)
        self.stack[-1] = kind.__new__(kind, *arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        instance = self.stack[-1]
        kind = _require_listed(type(instance), INSTANTIABLE, CALLABLE)
        set_state = getattr(kind, "__setstate__", None)  # of the class: the pickle may have set one on the instance
        if set_state:
            set_state(instance, state)
        else:
            vars(instance).update(state)

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build


def _require_listed(value: Any, *lists: dict[str, set[str]]) -> Any:
    """Return `value` if it is a listed class or function; raises ForeignClass.

    An instance is refused, because a pickle could give it the name of a listed class.
    """
    kind = type(value)
    name = value.__qualname__ if issubclass(kind, type) or kind is type(_require_listed) else None
    if name is None or not any(name in names.get(value.__module__, ()) for names in lists):
        raise ForeignClass(f"The exported file calls or changes {kind.__name__}, which no learner of ours does.")
    return value


def _load_checked(*_: Any, **__: Any) -> Any:
    raise BrokenLearner("The file is not an archive that torch wrote.")  # torch calls this only for its oldest format


_checked_pickle = SimpleNamespace(Unpickler=_LearnerUnpickler, load=_load_checked, __name__="checked_pickle")
