"""Trains a classifier of clicks in scikit-learn and exports it for `slated policy wrap`.

The model scores one candidate a row: what is known of the user, and of the item behind it. Writes model.onnx, and
samples.jsonl with requests and scikit-learn's own probabilities of a click.
"""

import argparse
import json
import math
import pathlib
import random

import numpy
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import roc_auc_score

COUNTRIES, CATEGORIES = ["DE", "FR", "NO"], ["books", "games", "music", "shoes"]


def one_hot(value, vocabulary):
    return [float(value == known) for known in vocabulary]


def encode(user, item):
    """The row that slated makes of a user and an item by schema.toml."""
    return [user["age"], *one_hot(user["country"], COUNTRIES), item["price"], *one_hot(item["category"], CATEGORIES)]


def request(rng, candidates):
    """A made-up request."""

    def item(number):
        features = {"price": round(rng.lognormvariate(2.5, 0.8), 2), "category": rng.choice(CATEGORIES)}
        return {"id": f"item-{number}", "features": features}

    return {
        "user": {"age": rng.randint(18, 80), "country": rng.choice(COUNTRIES)},
        "candidates": [item(number) for number in range(candidates)],
    }


def clicked(rng, user, item):
    """Whether a made-up user would click."""
    taste = 1.0 - 0.5 * math.log1p(item["price"]) + 0.04 * (user["age"] - 40) * (item["category"] == "books")
    taste += 1.2 * (item["category"] == "games") * (user["country"] == "NO")
    return rng.random() < 1.0 / (1.0 + math.exp(-taste))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."), help="folder of what is written")
    arguments.add_argument("--seed", type=int, default=1)
    arguments = arguments.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(arguments.seed)

    shown = [(asked["user"], asked["candidates"][0]["features"]) for asked in (request(rng, 1) for _ in range(4000))]
    rows = numpy.array([encode(user, item) for user, item in shown], dtype=numpy.float32)
    clicks = numpy.array([clicked(rng, user, item) for user, item in shown])
    model = GradientBoostingClassifier(n_estimators=40, max_depth=3, random_state=arguments.seed).fit(rows, clicks)
    print(f"AUC on what it was trained on {roc_auc_score(clicks, model.predict_proba(rows)[:, 1]):.3f}")

    (arguments.out / "model.onnx").write_bytes(to_onnx(model, rows[:1]).SerializeToString())
    with open(arguments.out / "samples.jsonl", "w", encoding="utf-8") as samples:
        for count in [1, 2, 3, 5, 8, 13, 21, 34]:
            sample = request(rng, count)
            asked = [encode(sample["user"], candidate["features"]) for candidate in sample["candidates"]]
            scores = model.predict_proba(numpy.array(asked, dtype=numpy.float32))[:, 1]
            print(json.dumps(sample | {"scores": scores.tolist()}), file=samples)


if __name__ == "__main__":
    main()
