// The Personalizer's REST client for JavaScript against a running service: URL, key.

const assert = require("node:assert/strict");
const { default: createClient, isUnexpected } = require("@azure-rest/ai-personalizer");

const [url, key] = process.argv.slice(2);
const client = createClient(url, { key }, { allowInsecureConnection: true });

async function expect(answer, status) {
  const { status: found, body } = await answer;
  assert.equal(found, status, JSON.stringify(body));
  return body;
}

async function main() {
  const actions = [
    { id: "news", features: [{ topic: "politics" }] },
    { id: "sport", features: [{ topic: "football" }] },
    { id: "films", features: [{ topic: "cinema" }] },
  ];
  const context = [{ user: { segment: "new" } }, { timeOfDay: "morning" }];

  const ranked = await client.path("/rank").post({ body: { actions, contextFeatures: context, eventId: "rest-1" } });
  assert.ok(!isUnexpected(ranked), JSON.stringify(ranked.body));
  assert.equal(ranked.body.eventId, "rest-1");
  assert.equal(ranked.body.ranking.length, 3);
  await expect(client.path("/events/{eventId}/reward", "rest-1").post({ body: { value: 1 } }), "204");
  await expect(client.path("/events/{eventId}/activate", "rest-1").post(), "204");

  const slots = [
    { id: "hero", features: [{ size: "large" }], baselineAction: "news" },
    { id: "side", excludedActions: ["news"], baselineAction: "sport" },
  ];
  const page = { actions, contextFeatures: context, slots, eventId: "rest-2", deferActivation: true };
  const shown = await expect(client.path("/multislot/rank").post({ body: page }), "201");
  assert.deepEqual(shown.slots.map((slot) => slot.id), ["hero", "side"]);
  assert.notEqual(shown.slots[0].rewardActionId, shown.slots[1].rewardActionId);
  assert.ok(shown.slots.every((slot) => slot.probability > 0 && slot.probability <= 1));
  await expect(client.path("/multislot/events/{eventId}/activate", "rest-2").post(), "204");
  const rewards = { reward: [{ slotId: "hero", value: 0.5 }] };
  await expect(client.path("/multislot/events/{eventId}/reward", "rest-2").post({ body: rewards }), "204");

  const configuration = await expect(client.path("/configurations/service").get(), "200");
  assert.equal(configuration.rewardWaitTime, "PT10M");
  const asked = { ...configuration, rewardWaitTime: "PT4H", defaultReward: 0.5, explorationPercentage: 0.3 };
  const changed = await expect(client.path("/configurations/service").put({ body: asked }), "200");
  assert.equal(changed.rewardWaitTime, "PT4H");
  assert.equal(changed.explorationPercentage, 0.3);
  const apprentice = { ...changed, learningMode: "Apprentice" };
  await expect(client.path("/configurations/service").put({ body: apprentice }), "200");
  const first = await expect(client.path("/rank").post({ body: { actions, contextFeatures: context } }), "201");
  assert.equal(first.rewardActionId, "news");
  await expect(client.path("/configurations/service").put({ body: changed }), "200");

  const learning = { name: "mine", arguments: "--cb_explore_adf --epsilon 0.2 --power_t 0 -l 0.001 --cb_type mtr -q ::" };
  assert.deepEqual(await expect(client.path("/configurations/policy").put({ body: learning }), "200"), learning);
  assert.deepEqual(await expect(client.path("/configurations/policy").get(), "200"), learning);
  assert.equal((await expect(client.path("/configurations/policy").delete(), "200")).name, "default");

  const model = await client.path("/model").get().asNodeStream();
  assert.equal(model.status, "200");
  let bytes = 0;
  for await (const chunk of model.body) bytes += chunk.length;
  assert.ok(bytes > 100, `${bytes}`);
  await expect(client.path("/model/properties").get(), "200");
  await expect(client.path("/model").delete(), "204");

  const bad = await client.path("/rank").post({ body: { actions: [actions[0], actions[0]] } });
  assert.ok(isUnexpected(bad));
  assert.equal(bad.status, "400");
  assert.equal(bad.body.error.code, "InvalidRankRequest");
  assert.equal(bad.headers["x-ms-error-code"], "InvalidRankRequest");
  const gone = await client.path("/events/{eventId}/reward", "nobody").post({ body: { value: 1 } });
  assert.equal(gone.body.error.code, "ResourceNotFound");
  console.log("all is well");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
