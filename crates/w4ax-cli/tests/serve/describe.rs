//! The description of the policy.

use serde_json::{Value, json};
use w4ax_robot::checkpoint::TRAINED;
use w4ax_robot::paths::{DEEP_POLICY, SKIP};
use w4ax_robot::rollouts::TASKS;

use crate::rollouts;
use crate::server::Server;
use crate::twin::Twin;

/// Returns the names of the parts, which must cover `count` numbers in order.
fn parts(parts: &Value, count: u64) -> Vec<&str> {
    let mut from = 0;
    let names = parts.as_array().unwrap().iter().map(|part| {
        assert_eq!(part["from"], from);
        from += part["count"].as_u64().unwrap();
        part["name"].as_str().unwrap()
    });
    let names = names.collect();
    assert_eq!(from, count);
    names
}

#[test]
fn description_is_that_of_the_policy() {
    let twin = Twin::new();
    let mut server = Server::start("dynamic");
    let reply = server.send(&json!({"describe": true}));
    let policy = &twin.quantized;
    assert_eq!(reply["tasks"], json!(policy.tasks()));
    assert_eq!(reply["tasks"], json!(TASKS));
    assert_eq!(
        reply["policy"],
        json!({"name": "policy", "blocks": 4, "packed_bytes": policy.packed_bytes()})
    );
    let fixed = [
        ("protocol", json!(1)),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("control_hz", json!(20)),
        (
            "widths",
            json!(["dynamic", "a2", "a4", "a8", "bf16", "plain"]),
        ),
        ("width", json!("dynamic")),
        ("rule", json!("dyq")),
        ("skip", json!(false)),
    ];
    for (field, expected) in fixed {
        assert_eq!(reply[field], expected, "{field}");
    }
    assert_eq!(
        parts(&reply["observation"], 25)[0],
        "end effector position - robot base"
    );
    assert_eq!(parts(&reply["action"], 7).len(), 3);
    let scales = [0, 1].map(|at| reply["action"][at]["scale"].as_f64());
    assert_eq!(scales, [Some(0.05), Some(0.5)]);
    server.end();
}

#[test]
fn description_has_the_options() {
    let mut server =
        Server::start_with(&["--policy", DEEP_POLICY, "--skip", SKIP, "--width", "plain"]);
    let reply = server.send(&json!({"describe": true}));
    assert_eq!(reply["policy"]["name"], "deep_policy");
    assert_eq!(reply["policy"]["blocks"], 16);
    assert_eq!(
        (&reply["skip"], &reply["width"]),
        (&json!(true), &json!("plain"))
    );
    server.end();
}

/// It is allowed at any time.
#[test]
fn description_changes_nothing() {
    let rollouts = rollouts();
    let (mut server, mut other) = (Server::start("dynamic"), Server::start("dynamic"));
    let first = server.send(&json!({"describe": true}));
    server.reset(0);
    other.reset(0);
    for obs in &rollouts.obs[..20] {
        assert_eq!(server.send(&json!({"describe": true})), first);
        assert_eq!(server.step(obs), other.step(obs));
    }
    server.end();
    other.end();
}

/// Every task begins by its name as by its index.
#[test]
fn task_is_found_by_name() {
    let rollouts = rollouts();
    let (mut server, mut other) = (Server::start("a8"), Server::start("a8"));
    let description = server.send(&json!({"describe": true}));
    let mut actions = Vec::new();
    for (index, name) in description["tasks"].as_array().unwrap().iter().enumerate() {
        let reply = server.send(&json!({"reset": true, "task": name}));
        assert_eq!(reply, json!({"ok": true}));
        other.reset(index);
        let reply = server.step(&rollouts.obs[40]);
        assert_eq!(reply, other.step(&rollouts.obs[40]));
        actions.push(reply["action"].clone());
    }
    assert!(
        actions.iter().any(|action| *action != actions[0]),
        "{TRAINED} ignores the task"
    );
    for name in ["lift", "", "0"] {
        let reply = server.send(&json!({"reset": true, "task": name}));
        let error = reply["error"].as_str().unwrap();
        assert!(
            error.contains(&format!("`{name}`")) && error.contains("Lift"),
            "{error}"
        );
    }
    server.end();
    other.end();
}
