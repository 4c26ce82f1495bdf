"""The same request and model behind FastAPI and ONNX Runtime, as one would write it: no journal, no propensities."""

import socket
import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Item(BaseModel):
    id: str
    features: dict[str, float]


class Request(BaseModel):
    user: dict[str, float]
    candidates: list[Item]
    slate_size: int


options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
app = FastAPI()


@app.post("/recommend")
def recommend(request: Request):
    state = np.fromiter(request.user.values(), np.float32)[None, :]
    items = np.array([list(item.features.values()) for item in request.candidates], np.float32)[None, :, :]
    (scores,) = session.run(["scores"], {"state": state, "items": items})
    best = np.argsort(-scores[0], kind="stable")[: request.slate_size]
    return {"slate": [request.candidates[i].id for i in best]}


listener = socket.socket()
listener.bind(("127.0.0.1", 0))
# Before the line below: whoever reads it may connect at once, and waits until the server accepts.
listener.listen(128)
print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
