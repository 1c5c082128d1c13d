"""The Flask application: routes, parameters, errors and documents. Imports no torch; a Service gives predictions."""

from dexpression.web.app import create_app

__all__ = ["create_app"]
