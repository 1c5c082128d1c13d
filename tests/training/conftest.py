"""Set torch up for the tests of this folder."""

import tests.support.torch_on_cpu  # noqa: F401
