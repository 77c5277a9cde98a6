//! Ids of requests, which replies repeat.

use serde_json::{Value, json};

use crate::rollouts;
use crate::server::Server;

#[test]
fn reply_has_the_id_of_its_request() {
    let obs = rollouts().obs[0];
    let ids = [
        json!(7),
        json!("NaN \" \\ Infinity"),
        json!(null),
        json!(-0.1),
        json!([1, {"b": [], "a": true}]),
    ];
    for id in ids {
        let mut server = Server::start("dynamic");
        let early = server.send(&json!({"obs": obs, "id": id}));
        let requests = [
            json!({"describe": true}),
            json!({"reset": true, "task": 0}),
            json!({"obs": obs}),
            // Errors: of the policy, of the fields, of a type, and of a value.
            json!({"reset": true, "task": 60}),
            json!({"obs": obs, "seed": 1}),
            json!({"obs": obs, "width": 4}),
            json!({"obs": [1, 2]}),
            json!({"obs": null}),
            json!({}),
        ];
        let replies = requests.map(|mut request| {
            request["id"] = id.clone();
            server.send(&request)
        });
        for (at, reply) in [early].iter().chain(&replies).enumerate() {
            assert_eq!(reply.get("id"), Some(&id), "{reply}");
            assert_eq!(reply.get("error").is_some(), at == 0 || at > 3, "{reply}");
        }
        assert_eq!(server.step(&obs).get("id"), None);
        server.end();
    }
}

/// Python's `json` writes these numbers. The error names the first one's place, and has the id.
#[test]
fn number_that_is_not_finite_is_named() {
    let obs = rollouts().obs[0];
    let mut server = Server::start("dynamic");
    server.reset(0);
    server.step(&obs);
    let line = |field: &str, at: usize, numbers: &[&str]| {
        let mut texts: Vec<String> = obs.iter().map(f32::to_string).collect();
        let mut executed = vec!["0.5".to_owned(); 7];
        let changed = match field {
            "obs" => &mut texts,
            _ => &mut executed,
        };
        for (place, number) in changed[at..].iter_mut().zip(numbers) {
            *place = (*number).into();
        }
        let (obs, executed) = (texts.join(", "), executed.join(", "));
        format!(r#"{{"id": "é\"NaN", "obs": [{obs}], "executed": [{executed}]}}"#)
    };
    for (field, at, numbers) in [
        ("obs", 3, &["NaN"][..]),
        ("obs", 24, &["Infinity"]),
        ("obs", 0, &["-Infinity", "NaN"]),
        ("executed", 6, &["NaN"]),
    ] {
        let reply = server.request(line(field, at, numbers).as_bytes());
        let error = format!(
            "`{field}` is {} at {at}: expected a finite number",
            numbers[0]
        );
        assert_eq!(reply, json!({"id": "é\"NaN", "error": error}));
    }
    let reply = server.request(line("obs", 5, &["-1e39"]).as_bytes());
    let error = "`obs` is -1e39 at 5: expected a number that is finite in f32";
    assert_eq!(reply, json!({"id": "é\"NaN", "error": error}));
    // An id that is not JSON cannot be repeated.
    let reply = server.request(br#"{"id": [NaN], "describe": true}"#);
    assert_eq!(
        (reply.get("id"), reply["error"].is_string()),
        (None, true),
        "{reply}"
    );
    // Nothing else makes a line with such a number valid.
    for bad in [
        r#"{"id": 1, "obs": [NaN}"#,
        r#"{"task": NaN, "reset": true}"#,
        "{NaN}",
    ] {
        let reply: Value = server.request(bad.as_bytes());
        assert!(reply["error"].is_string(), "{reply}");
    }
    assert_eq!(server.step(&obs)["step"], 1);
    server.end();
}
