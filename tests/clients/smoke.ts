// A page view with the client that docs/clients.md describes: an item, a slate, a click, and an error.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./slated.ts";

const [url, key] = process.argv.slice(2);
assert(url !== undefined && key !== undefined);
const slated = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });

const features = (quality: number): components["schemas"]["Features"] => ({
  affinity: 0,
  item_feature_0: quality,
  item_feature_1: "a",
  item_feature_2: "b",
  item_feature_3: "c",
});

const put = await slated.PUT("/items/{id}", { params: { path: { id: "d" } }, body: { features: features(0.4) } });
assert(put.data !== undefined, JSON.stringify(put.error));

const { data: page, error } = await slated.POST("/recommend", {
  body: {
    user_id: "user-1",
    user: { user_feature_0: "x" },
    context: { campaign: "men", position: "1" },
    candidates: ["d", { id: "a", features: features(-0.7) }, { id: "b", features: features(0.1) }],
    slate_size: 2,
  },
});
assert(page !== undefined, error?.detail);
assert.equal(page.slate.length, 2);
const first = page.slate[0];
assert(first !== undefined && first.marginal_propensity > 0);

const click = await slated.POST("/feedback", {
  body: { decision_id: page.decision_id, event: "click", item: first.item },
});
assert.equal(click.data?.accepted, 1);

const decision = await slated.GET("/decisions/{id}", {
  params: { path: { id: page.decision_id }, query: { explain: false } },
});
assert.deepEqual(decision.data?.slate, page.slate);

const policies = await slated.GET("/policies");
assert.equal(policies.data?.policies[0]?.name, "thompson");

const refused = await slated.POST("/recommend", { body: { candidates: ["unknown"], slate_size: 1 } });
assert.equal(refused.error?.type, "urn:slated:problem:invalid-request");
assert.equal(refused.error.errors?.[0]?.field, "candidates[0]");

console.log("ok");
