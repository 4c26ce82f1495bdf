//! What may be asked next.

use serde_json::{Value, json};
use utoipa::openapi::link::Link;

/// What may be asked next, with what the answer to an operation says.
pub fn after(operation: &str) -> Vec<(String, Link)> {
    let link = |name: &str, to: &str, description: &str, parameters: &[(&str, &str)], body: Option<Value>| {
        let link = Link::builder().operation_id(to).description(description).request_body(body);
        let link = parameters.iter().fold(link, |link, (name, value)| link.parameter(*name, *value));
        (name.to_owned(), link.build())
    };
    let by_id = [("id", "$request.path.id")];
    match operation {
        "recommend" => {
            let click = json!({"decision_id": "$response.body#/decision_id", "event": "click", "position": 0});
            vec![
                link("decision", "decision", "Read the decision back", &[("id", "$response.body#/decision_id")], None),
                link("feedback", "feedback", "Report a click on its first item", &[], Some(click)),
            ]
        }
        "recommend_slots" => {
            let id = [("id", "$response.body#/slots/0/decision_id")];
            vec![link("decision", "decision", "Read the first slot's decision back", &id, None)]
        }
        "put_item" => vec![
            link("item", "item", "Read it back", &by_id, None),
            link("delete_item", "delete_item", "Remove it", &by_id, None),
        ],
        "put_user" => vec![
            link("user", "user", "Read it back", &by_id, None),
            link("delete_user", "delete_user", "Remove it", &by_id, None),
            link("forget", "forget", "Forget the person's events", &by_id, None),
        ],
        _ => Vec::new(),
    }
}
