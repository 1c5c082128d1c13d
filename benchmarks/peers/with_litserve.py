"""LitServe: one worker a core and the fast queue, as its documentation recommends for CPUs above 100 requests/s."""

from typing import Any

import litserve
import numpy as np
from fastapi import Request
from network import BATCH, CORES, MAX_BATCH, PORT, Network, decode


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.network = Network()

    def decode_request(self, request: Request) -> np.ndarray:  # LitServe passes the form because of this hint
        return decode(request["file"].file)

    def predict(self, x: Any) -> list[str]:
        return self.network.predict(x if BATCH else [x])

    def encode_response(self, output: Any) -> dict[str, str]:
        return {"result": output if BATCH else output[0]}


if __name__ == "__main__":
    api = Api(max_batch_size=MAX_BATCH, batch_timeout=0.01) if BATCH else Api()
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=CORES, fast_queue=True)
    server.run(host="127.0.0.1", port=PORT, log_level="warning", access_log=False, generate_client_file=False)
