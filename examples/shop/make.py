"""Writes decisions.jsonl and feedback.jsonl beside this file: the log of a small shop that showed one of four items at
random. The young click what costs less than 25, Oslo clicks clothes, and those over 40 click books."""

import datetime
import json
import pathlib
import random

ITEMS = {
    "mug": (9, "home"), "lamp": (35, "home"), "kettle": (30, "home"), "rug": (60, "home"),
    "scarf": (19, "clothes"), "boots": (80, "clothes"), "novel": (12, "books"), "atlas": (45, "books"),
}
CITIES = ["Oslo", "Bergen", "Rome"]


def click_rate(age, city, price, category):
    rate = 0.08
    rate += 0.25 if age < 30 and price < 25 else 0
    rate += 0.30 if city == "Oslo" and category == "clothes" else 0
    rate += 0.25 if age > 40 and category == "books" else 0
    return rate


def main():
    rng = random.Random(7)
    folder = pathlib.Path(__file__).parent
    time = datetime.datetime(2026, 1, 5, 8, tzinfo=datetime.timezone.utc)
    decisions, feedback = [], []
    for session in range(100):
        user, age, city = f"user-{rng.randrange(60)}", rng.randrange(18, 70), rng.choice(CITIES)
        time += datetime.timedelta(minutes=rng.randrange(40, 90))
        for step in range(4):
            time += datetime.timedelta(seconds=rng.randrange(20, 90))
            decision = f"shop-{4 * session + step}"
            candidates = rng.sample(sorted(ITEMS), 4)
            shown = rng.choice(candidates)
            features = lambda item: {"price": ITEMS[item][0], "category": ITEMS[item][1]}
            decisions.append({
                "decision_id": decision, "time": time.isoformat().replace("+00:00", "Z"), "source": "import:shop",
                "policy": "random", "policy_version": 1, "user_id": user, "session_id": f"visit-{session}",
                "user": {"age": age, "city": city}, "context": {"page": rng.choice(["home", "search"])},
                "candidates": [{"item": item, "features": features(item)} for item in candidates],
                "slate": [{"item": shown, "position": 0, "cascade_propensity": 0.25, "marginal_propensity": 0.25}],
                "propensity": 0.25,
            })
            if rng.random() < click_rate(age, city, *ITEMS[shown]):
                clicked = (time + datetime.timedelta(seconds=rng.randrange(2, 15))).isoformat().replace("+00:00", "Z")
                feedback.append({
                    "feedback_id": f"click-{decision}", "decision_id": decision, "time": clicked, "occurred": clicked,
                    "source": "import:shop", "event": "click", "value": 1, "item": shown,
                })
    for name, events in (("decisions", decisions), ("feedback", feedback)):
        lines = (json.dumps(event, separators=(",", ":")) + "\n" for event in events)
        (folder / f"{name}.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
