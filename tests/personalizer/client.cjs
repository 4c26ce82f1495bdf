// The Personalizer's client for JavaScript against a running service: URL, key.

const assert = require("node:assert/strict");
const { CognitiveServicesCredentials } = require("@azure/ms-rest-azure-js");
const { PersonalizerClient } = require("@azure/cognitiveservices-personalizer");

const [url, key] = process.argv.slice(2);

const actions = [
  { id: "NewsArticle", features: [{ type: "News" }] },
  { id: "SportsArticle", features: [{ type: "Sports", teams: ["a", "b"] }] },
  { id: "EntertainmentArticle", features: [{ type: "Entertainment", length: { minutes: 3 } }] },
];
const request = (eventId, more) => ({ contextFeatures: [{ timeOfDay: "Morning" }], actions, eventId, ...more });

async function main() {
  const client = new PersonalizerClient(new CognitiveServicesCredentials(key), url);
  const answer = await client.rank(request("js-1", { excludedActions: ["SportsArticle"], deferActivation: true }));
  assert.equal(answer._response.status, 201);
  assert.equal(answer.eventId, "js-1");
  assert.deepEqual(answer.ranking[1], { id: "SportsArticle", probability: 0 });
  assert.equal(answer.rewardActionId, answer.ranking[0].id);
  const sum = answer.ranking.reduce((sum, action) => sum + action.probability, 0);
  assert.ok(Math.abs(sum - 1) < 1e-9);
  assert.equal((await client.events.activate("js-1"))._response.status, 204);
  assert.equal((await client.events.reward("js-1", { value: 0.25 }))._response.status, 204);

  await assert.rejects(client.rank({ actions: [] }), (error) => {
    assert.equal(error.statusCode, 400);
    assert.equal(error.response.headers.get("x-ms-error-code"), "InvalidRankRequest");
    assert.equal(error.body.error.code, "BadRequest");
    assert.equal(error.body.error.innerError.code, "InvalidRankRequest");
    return true;
  });
  await assert.rejects(client.events.reward("nobody", { value: 1 }), (error) => {
    assert.equal(error.statusCode, 404);
    assert.equal(error.body.error.code, "ResourceNotFound");
    return true;
  });
  console.log("all is well");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
