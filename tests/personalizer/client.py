"""The Personalizer's client for Python against a running service: URL, key."""

import sys

from azure.cognitiveservices.personalizer import PersonalizerClient
from azure.cognitiveservices.personalizer.models import ErrorResponseException, RankableAction, RankRequest
from msrest.authentication import CognitiveServicesCredentials
from msrest.exceptions import HttpOperationError

url, key = sys.argv[1:]
client = PersonalizerClient(url, CognitiveServicesCredentials(key))

actions = [
    RankableAction(id="pasta", features=[{"taste": "salty", "spice_level": "medium"}, {"nutrition": {"calories": 500}}]),
    RankableAction(id="ice cream", features=[{"taste": "sweet", "spice_level": "none"}, {"cuisines": ["it", "us"]}]),
    RankableAction(id="salad", features=[{"taste": "salty", "spice_level": "low"}]),
]
context = [{"time_of_day": "morning"}, {"user": {"likes": ["sweet", "cold"], "embedding": [0.5, 1.5]}}]


def request(event_id, **more):
    return RankRequest(actions=actions, context_features=context, event_id=event_id, **more)


answer = client.rank(rank_request=request("python-1", excluded_actions=["pasta"]))
assert answer.event_id == "python-1"
assert answer.ranking[0].id == "pasta" and answer.ranking[0].probability == 0
assert answer.reward_action_id == answer.ranking[1].id
assert abs(sum(action.probability for action in answer.ranking) - 1) < 1e-6
client.events.reward(event_id="python-1", value=0.5)

raw = client.rank(rank_request=request("python-2", defer_activation=True), raw=True)
assert raw.response.status_code == 201
assert client.events.activate(event_id="python-2", raw=True).response.status_code == 204
assert client.events.reward(event_id="python-2", value=1.0, raw=True).response.status_code == 204

made = client.rank(rank_request=request(None))
client.events.reward(made.event_id, -1.0)

try:
    client.rank(rank_request=RankRequest(actions=actions + actions[:1]))
    raise SystemExit("actions given twice were ranked")
except ErrorResponseException as error:
    assert error.response.status_code == 400
    assert error.response.headers["x-ms-error-code"] == "InvalidRankRequest"
    assert error.error.error.code == "BadRequest", error.error.error.code
    assert error.error.error.inner_error.code == "InvalidRankRequest"
    assert error.error.error.target == "actions[3].id"
    assert "stands twice" in error.error.error.message

for call, status in [
    (lambda: client.events.reward("nobody", 1.0), 404),
    (lambda: client.events.activate("nobody"), 404),
    (lambda: client.events.reward("python-1", 2.0), 400),
    (lambda: PersonalizerClient(url, CognitiveServicesCredentials("wrong")).events.activate("python-1"), 401),
]:
    try:
        call()
        raise SystemExit(f"a {status} was expected")
    except HttpOperationError as error:
        assert error.response.status_code == status, error.response.status_code

print("all is well")
