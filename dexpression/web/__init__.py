"""The Flask application: routes and errors. Knows no torch; predictions come from what it is given."""

from dexpression.web.app import create_app

__all__ = ["create_app"]
