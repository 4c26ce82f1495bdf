use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::{PREVIEW, Place, rank, tell};

const SEGMENTS: [(&str, &str); 3] = [("reader", "politics"), ("fan", "football"), ("film lover", "cinema")];

fn request(event_id: &str, segment: &str) -> Value {
    let action = |id: &str, topic: &str| json!({"id": id, "features": [{"about": {"topic": topic}}]});
    json!({
        "eventId": event_id,
        "contextFeatures": [{"user": {"segment": segment}}],
        "actions": [action("news", "politics"), action("sport", "football"), action("films", "cinema")],
    })
}

/// The mean reward of so many visitors, each of whom likes one topic alone.
async fn visit(place: &Place, name: &str, visitors: usize, seed: u64) -> (f64, f64) {
    let service = place.serve();
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let (mut total, mut expected) = (0.0, 0.0);
    for visitor in 0..visitors {
        let (segment, likes) = SEGMENTS[generator.random_range(0..SEGMENTS.len())];
        let id = format!("{name}-{visitor}");
        let answer = rank(&service, &format!("{PREVIEW}/rank"), &request(&id, segment)).await;
        let topic = |id: &Value| match id.as_str() {
            Some("news") => "politics",
            Some("sport") => "football",
            _ => "cinema",
        };
        let liked = topic(&answer["rewardActionId"]) == likes;
        for action in answer["ranking"].as_array().unwrap() {
            if topic(&action["id"]) == likes {
                expected += action["probability"].as_f64().unwrap();
            }
        }
        if liked {
            total += 1.0;
            tell(&service, &format!("{PREVIEW}/events/{id}/reward"), Some(&json!({"value": 1}))).await;
        }
    }
    service.stop();
    (total / visitors as f64, expected / visitors as f64)
}

/// What the Personalizer's clients send is enough to learn from, with no more said than `slated train --personalizer`.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_learned_from_its_own_journal_ranks_better() {
    let place = Place::started();
    let (_, before) = visit(&place, "before", 600, 1).await;
    // Nothing is known: a third of the visitors like what is shown first, or what is drawn.
    assert!((before - 1.0 / 3.0).abs() < 0.08, "{before}");
    place.must(&["train", "--personalizer", "--policy", "personalizer"]);
    let (found, expected) = visit(&place, "after", 300, 2).await;
    // All but what is explored: 1 - 0.2 * 2 / 3.
    assert!(expected > 0.85, "{expected}");
    assert!(found > 0.75, "{found}");
    // Evaluation weighs by the probabilities that were answered.
    let report = place.must(&["journal", "verify"]);
    assert!(report.contains("900"), "{report}");
}
