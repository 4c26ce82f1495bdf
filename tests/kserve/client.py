"""Asks a running slated with Triton's own client; reads asked.json, prints `done`."""

import json

import numpy
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

with open("asked.json", encoding="utf-8") as file:
    asked = json.load(file)
client = triton.InferenceServerClient(asked["url"], concurrency=4)
assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready("ucb") and client.is_model_ready("ucb", "1")
assert not client.is_model_ready("none") and not client.is_model_ready("ucb", "2")
assert client.get_server_metadata()["name"] == "slated"
metadata = client.get_model_metadata("ucb")
assert metadata == client.get_model_metadata("ucb", "1")
names = {tensor["name"]: tensor for tensor in metadata["inputs"]}
arrays = {
    tensor["name"]: numpy.array(tensor["data"], dtype=numpy.float32).reshape(tensor["shape"])
    for tensor in asked["request"]["inputs"]
}
assert names.keys() == arrays.keys()


def inputs(arrays, binary):
    made = []
    for name, array in arrays.items():
        tensor = triton.InferInput(name, array.shape, names[name]["datatype"])
        tensor.set_data_from_numpy(array, binary_data=binary)
        made.append(tensor)
    return made


expected = numpy.array([asked["scores"]], dtype=numpy.float32)
for binary in [True, False]:
    for wanted in [None, [triton.InferRequestedOutput("scores", binary_data=True)], [triton.InferRequestedOutput("scores", binary_data=False)]]:
        result = client.infer("ucb", inputs(arrays, binary), outputs=wanted, request_id="7")
        assert result.get_response()["id"] == "7"
        numpy.testing.assert_array_equal(result.as_numpy("scores"), expected)
result = client.infer("ucb", inputs(arrays, True), model_version="1", parameters={"note": "mine"})
numpy.testing.assert_array_equal(result.as_numpy("scores"), expected)

# A batch, asked for several times at once.
rows = {name: numpy.repeat(array, 50, axis=0) for name, array in arrays.items()}
pending = [client.async_infer("ucb", inputs(rows, True)) for _ in range(8)]
for request in pending:
    numpy.testing.assert_allclose(request.get_result().as_numpy("scores"), numpy.repeat(expected, 50, axis=0), rtol=1e-6)

for change, said in [
    (lambda: inputs({"state": arrays["state"]}, True), "input `items` is missing"),
    (lambda: inputs({**arrays, "items": arrays["items"][:, :, 1:]}, True), "input `items` has shape"),
]:
    try:
        client.infer("ucb", change())
    except InferenceServerException as error:
        assert said in error.message() and error.status() == "400", error
    else:
        raise AssertionError(f"not refused: {said}")
try:
    client.infer("none", inputs(arrays, True))
except InferenceServerException as error:
    assert "no policy `none` is live" in error.message(), error
else:
    raise AssertionError("not refused")
print("done")
