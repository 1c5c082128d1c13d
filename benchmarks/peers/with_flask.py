"""The student project: Flask's own server, which saves the upload as a file and gives its path to `learner.predict`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from flask import Flask, request

from dexpression.artifact.export import load_exported

app = Flask(__name__)
learner, _ = load_exported(Path(os.environ["PEER_MODEL_FOLDER"]))
uploads = tempfile.TemporaryDirectory()


@app.get("/ready")
def ready() -> dict[str, str]:
    return {}


@app.post("/")
def predict() -> dict[str, str]:
    upload = request.files["file"]
    path = Path(uploads.name, Path(upload.filename or "picture").name)
    upload.save(path)
    label, *_ = learner.predict(path)
    return {"result": str(label)}


if __name__ == "__main__":
    app.run(port=int(os.environ["PEER_PORT"]), threaded=True)
