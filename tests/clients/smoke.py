"""A page view with the client that docs/clients.md describes: an item, a slate, a click, and an error."""

import sys

from slated_client import AuthenticatedClient
from slated_client.api.catalogue import put_item
from slated_client.api.journal import decision
from slated_client.api.policies import policies
from slated_client.api.recommend import feedback, recommend
from slated_client.models import (
    CandidateItem,
    Features,
    FeaturesRequest,
    FeedbackEvent,
    Problem,
    RecommendRequest,
)


def features(quality: float) -> Features:
    return Features.from_dict(
        {
            "affinity": 0.0,
            "item_feature_0": quality,
            "item_feature_1": "a",
            "item_feature_2": "b",
            "item_feature_3": "c",
        }
    )


def main(url: str, key: str) -> None:
    with AuthenticatedClient(base_url=url, token=key) as client:
        put = put_item.sync(id="d", client=client, body=FeaturesRequest(features=features(0.4)))
        assert put is not None and not isinstance(put, Problem), put

        page = recommend.sync(
            client=client,
            body=RecommendRequest(
                user_id="user-1",
                user=Features.from_dict({"user_feature_0": "x"}),
                context=Features.from_dict({"campaign": "men", "position": "1"}),
                candidates=[
                    "d",
                    CandidateItem(id="a", features=features(-0.7)),
                    CandidateItem(id="b", features=features(0.1)),
                ],
                slate_size=2,
            ),
        )
        assert page is not None and not isinstance(page, Problem), page
        assert len(page.slate) == 2
        first = page.slate[0]
        assert first.marginal_propensity > 0

        click = feedback.sync(
            client=client,
            body=FeedbackEvent(decision_id=page.decision_id, event="click", item=first.item),
        )
        assert click is not None and not isinstance(click, Problem), click
        assert click.accepted == 1

        recorded = decision.sync(id=page.decision_id, client=client)
        assert recorded is not None and not isinstance(recorded, Problem), recorded
        assert recorded.slate == page.slate

        known = policies.sync(client=client)
        assert known is not None and not isinstance(known, Problem), known
        assert known.policies[0].name == "thompson"

        refused = recommend.sync(client=client, body=RecommendRequest(candidates=["unknown"], slate_size=1))
        assert isinstance(refused, Problem), refused
        assert refused.type_ == "urn:slated:problem:invalid-request"
        assert refused.errors and refused.errors[0].field == "candidates[0]"
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
