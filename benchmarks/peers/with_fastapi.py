"""FastAPI in uvicorn: `def`, so that the work runs in a thread and blocks nobody, and `--workers` for the cores."""

from __future__ import annotations

from fastapi import FastAPI, UploadFile
from network import Network, decode

app = FastAPI()
network = Network()


@app.get("/ready")
def ready() -> None:
    """Answered once the network is loaded."""


@app.post("/")
def predict(file: UploadFile) -> dict[str, str]:
    return {"result": network.read([decode(file.file)])[0]}
