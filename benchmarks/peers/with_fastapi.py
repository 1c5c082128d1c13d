"""FastAPI in uvicorn: `def`, so that a prediction runs in a thread and does not block the event loop."""

from __future__ import annotations

from fastapi import FastAPI, UploadFile
from network import Network, decode

app = FastAPI()
network = Network()


@app.get("/ready")
def ready() -> None:
    """Answer 200 as soon as the network is loaded."""


@app.post("/")
def predict(file: UploadFile) -> dict[str, str]:
    return {"result": network.predict([decode(file.file)])[0]}
