"""BentoML: one worker a core, as its documentation recommends for CPUs; batches by its own adaptive batching."""

from __future__ import annotations

import bentoml
from network import BATCH, MAX_BATCH, Network, decode
from PIL.Image import Image

service = bentoml.service(workers="cpu_count", logging={"access": {"enabled": False}})


@service
class Single:
    def __init__(self) -> None:
        self.network = Network()

    @bentoml.api(route="/")
    def predict(self, file: Image) -> dict[str, str]:
        return {"result": self.network.predict([decode(file)])[0]}


@service
class Batched:
    def __init__(self) -> None:
        self.network = Network()

    @bentoml.api(route="/", batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=1000)
    def predict(self, file: list[Image]) -> list[str]:
        return self.network.predict([decode(picture) for picture in file])


Service = Batched if BATCH else Single
