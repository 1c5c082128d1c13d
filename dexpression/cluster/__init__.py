"""Several processes or machines: the command `label`, and `app`, which `serve run dexpression.cluster:app` runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve import Application

    app: Application


def __getattr__(name: str) -> Any:
    """Make `app` when it is asked for, because labelling on this machine needs neither Ray nor the app."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dexpression.extras import require_extra
    from dexpression.settings import Settings

    require_extra("cluster", "Serving on Ray", ("a2wsgi", "ray"))
    from dexpression.cluster.deployment import create_application

    return create_application(Settings.from_env(os.environ))
