"""The same request and model behind Ray Serve and ONNX Runtime, as its documentation has one write it: no journal, no propensities."""

import socket
import sys
import time

import numpy as np
import onnxruntime
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse


@serve.deployment(max_ongoing_requests=100)
class Policy:
    def __init__(self, model: str):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options)

    async def __call__(self, request: Request) -> JSONResponse:
        body = await request.json()
        state = np.fromiter(body["user"].values(), np.float32)[None, :]
        candidates = body["candidates"]
        items = np.array([list(item["features"].values()) for item in candidates], np.float32)[None, :, :]
        (scores,) = self.session.run(["scores"], {"state": state, "items": items})
        best = np.argsort(-scores[0], kind="stable")[: body["slate_size"]]
        return JSONResponse({"slate": [candidates[i]["id"] for i in best]})


with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"log_level": "ERROR", "enable_access_log": False})
serve.run(Policy.bind(sys.argv[1]), route_prefix="/recommend")
print(f"listening on http://127.0.0.1:{port}", flush=True)
while True:
    time.sleep(60)
