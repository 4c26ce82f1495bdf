"""Trains a small re-ranker in PyTorch and exports it for `slated policy wrap`.

The model scores all candidates of a request at once: each candidate sees the mean of the others, so it takes a mask that
says which of them are padding. Writes model.onnx, and samples.jsonl with requests and PyTorch's own scores of them.
"""

import argparse
import json
import math
import pathlib
import random

import torch

COUNTRIES, DEVICES, CATEGORIES = ["DE", "FR", "NO"], ["desktop", "phone"], ["books", "games", "music", "shoes"]
STATE, ITEM, HIDDEN = 1 + len(COUNTRIES) + len(DEVICES), 1 + len(CATEGORIES) + 3, 32


def one_hot(value, vocabulary):
    return [float(value == known) for known in vocabulary]


def encode_state(request):
    """The row of `state` that slated makes of a request by schema.toml."""
    user = request["user"]
    return (
        [(user["age"] - 40.0) / 12.0]
        + one_hot(user["country"], COUNTRIES)
        + one_hot(request["context"]["device"], DEVICES)
    )


def encode_item(features):
    """The row of `items`, likewise."""
    return [math.log1p(features["price"])] + one_hot(features["category"], CATEGORIES) + features["vector"]


def request(rng, candidates):
    """A made-up request."""

    def item(number):
        features = {
            "price": round(rng.lognormvariate(2.5, 0.8), 2),
            "category": rng.choice(CATEGORIES),
            "vector": [round(rng.gauss(0.0, 1.0), 3) for _ in range(3)],
        }
        return {"id": f"item-{number}", "features": features}

    return {
        "user": {"age": rng.randint(18, 80), "country": rng.choice(COUNTRIES)},
        "context": {"device": rng.choice(DEVICES)},
        "candidates": [item(number) for number in range(candidates)],
    }


def clicked(rng, request, features):
    """Whether a made-up user would click: the young like games on phones, the old dear books, all what is near to them."""
    user, vector = request["user"], features["vector"]
    taste = -0.5 + 0.8 * vector[0] - 0.4 * vector[1] * (user["age"] - 40.0) / 12.0
    taste += 1.5 * (features["category"] == "games") * (request["context"]["device"] == "phone")
    taste += 0.5 * (features["category"] == "books") * (math.log1p(features["price"]) - 2.0)
    return float(rng.random() < 1.0 / (1.0 + math.exp(-taste)))


class Reranker(torch.nn.Module):
    """(batch, S), (batch, candidates, D), (batch, candidates) to scores (batch, candidates)."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Linear(STATE + 2 * ITEM, HIDDEN), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(HIDDEN, 1)
        )

    def forward(self, who, what, shown):
        weight = shown.to(what.dtype).unsqueeze(-1)
        mean = (what * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True).clamp(min=1.0)
        state = who.unsqueeze(1).expand(-1, what.shape[1], -1)
        return self.body(torch.cat([state, what, mean.expand_as(what)], dim=-1)).squeeze(-1)


def tensors(requests):
    """The three inputs for requests of equally many candidates."""
    who = torch.tensor([encode_state(request) for request in requests])
    what = torch.tensor(
        [[encode_item(candidate["features"]) for candidate in request["candidates"]] for request in requests]
    )
    return who, what, torch.ones(what.shape[:2], dtype=torch.bool)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."), help="folder of what is written")
    arguments.add_argument("--seed", type=int, default=1)
    arguments = arguments.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(arguments.seed)
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)

    requests = [request(rng, 8) for _ in range(2000)]
    inputs = tensors(requests)
    clicks = torch.tensor(
        [[clicked(rng, request, candidate["features"]) for candidate in request["candidates"]] for request in requests]
    )
    model = Reranker()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(60):
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(*inputs), clicks)
        loss.backward()
        optimiser.step()
    model.eval()
    print(f"loss {loss.item():.4f}, that of the mean {torch.distributions.Bernoulli(clicks.mean()).entropy():.4f}")

    batch, candidates = torch.export.Dim("batch"), torch.export.Dim("candidates")
    torch.onnx.export(
        model,
        tuple(tensor[:2] for tensor in inputs),
        arguments.out / "model.onnx",
        input_names=["who", "what", "shown"],
        output_names=["logits"],
        dynamic_shapes=({0: batch}, {0: batch, 1: candidates}, {0: batch, 1: candidates}),
        dynamo=True,
    )
    with open(arguments.out / "samples.jsonl", "w", encoding="utf-8") as samples:
        for count in [1, 2, 3, 5, 8, 13, 21, 34]:
            sample = request(rng, count)
            with torch.no_grad():
                scores = model(*tensors([sample]))[0]
            print(json.dumps(sample | {"scores": scores.tolist()}), file=samples)


if __name__ == "__main__":
    main()
