//! The widths of steps: of the option, and of requests.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use w4ax::Width;

use crate::rollouts;
use crate::server::Server;
use crate::twin::{Twin, action_of};

/// The names of the widths, with `None` for the unquantized policy.
const WIDTHS: [(&str, Option<Width>); 5] = [
    ("a2", Some(Width::A2)),
    ("a4", Some(Width::A4)),
    ("a8", Some(Width::A8)),
    ("bf16", Some(Width::Bf16)),
    ("plain", None),
];

#[test]
fn fixed_width_is_used_for_every_step() {
    let (rollouts, mut twin) = (rollouts(), Twin::new());
    let mut actions = Vec::new();
    for (name, width) in WIDTHS {
        let mut server = Server::start(name);
        server.reset(rollouts.task[0]);
        twin.reset(rollouts.task[0]);
        let replies: Vec<Value> = rollouts.obs[..12]
            .iter()
            .map(|obs| {
                let reply = server.step(obs);
                assert_eq!(reply, twin.requested(obs, width), "{name}");
                reply["action"].clone()
            })
            .collect();
        assert!(!actions.contains(&replies), "{name} changes nothing");
        actions.push(replies);
        server.end();
    }
}

/// The server's replies equal those of a dispatcher and a policy in this process.
#[test]
fn dynamic_width_follows_the_served_actions() {
    let (rollouts, mut twin) = (rollouts(), Twin::new());
    let mut server = Server::start("dynamic");
    let (mut widths, mut reasons) = (BTreeSet::new(), BTreeSet::new());
    for episode in [&rollouts.episodes()[0], &rollouts.episodes()[7]] {
        let task = rollouts.task[episode.start];
        server.reset(task);
        twin.reset(task);
        let mut last = None;
        for row in episode.clone().take(60) {
            let reply = server.step(&rollouts.obs[row]);
            assert_eq!(reply, twin.dynamic(&rollouts.obs[row], last), "row {row}");
            if row == episode.start {
                let first = [&reply["width"], &reply["sensitivity"], &reply["reason"]];
                assert_eq!(first, [&json!(16), &Value::Null, &json!("start")]);
            }
            last = Some(action_of(&reply));
            widths.insert(reply["width"].as_u64());
            reasons.insert(reply["reason"].to_string());
        }
    }
    assert!(
        widths.len() > 1 && reasons.len() > 3,
        "only {widths:?}, {reasons:?}"
    );
    server.end();
}

/// A width of a request holds for its step only, whatever the option is.
#[test]
fn requested_width_overrides_the_option() {
    let (rollouts, mut twin) = (rollouts(), Twin::new());
    for option in ["dynamic", "a4", "plain"] {
        let mut server = Server::start(option);
        server.reset(0);
        twin.reset(0);
        let mut last = None;
        for (obs, (name, width)) in rollouts.obs.iter().zip(WIDTHS.iter().cycle()).take(20) {
            let reply = server.step_of(&json!({"obs": obs, "width": name}));
            // The decision of this step is not used.
            twin.decide(last);
            assert_eq!(
                reply,
                twin.requested(obs, *width),
                "{name} with --width {option}"
            );
            let replied = action_of(&reply);
            let reply = server.step_of(&json!({"obs": obs, "width": "dynamic"}));
            assert_eq!(
                reply,
                twin.dynamic(obs, Some(replied)),
                "with --width {option}"
            );
            last = Some(action_of(&reply));
        }
        server.end();
    }
}

/// Two dynamic runs have the same decisions if their robots executed the same actions, although
/// every third step of one of them has a requested width.
#[test]
fn requested_width_does_not_disturb_later_decisions() {
    let rollouts = rollouts();
    let (mut dynamic, mut forced) = (Server::start("dynamic"), Server::start("dynamic"));
    for server in [&mut dynamic, &mut forced] {
        server.reset(rollouts.task[0]);
    }
    let mut widths = WIDTHS.iter().cycle();
    let (mut last, mut decided) = (None::<Value>, BTreeSet::new());
    for (at, obs) in rollouts.obs[..90].iter().enumerate() {
        let mut request = json!({"obs": obs});
        if let Some(action) = last {
            request["executed"] = action;
        }
        let expected = dynamic.step(obs);
        if at % 3 == 1 {
            let (name, width) = widths.next().unwrap();
            request["width"] = json!(name);
            let reply = forced.step_of(&request);
            assert_eq!(reply["width"], json!(width.map_or(32, Width::bits)));
            assert_eq!(reply["reason"], "requested");
        } else {
            assert_eq!(forced.step_of(&request), expected, "step {at}");
            decided.insert(expected["width"].as_u64());
        }
        last = Some(expected["action"].clone());
    }
    assert!(decided.len() > 1, "only {decided:?}");
    dynamic.end();
    forced.end();
}

#[test]
fn clipped_numbers_are_listed() {
    let (rollouts, mut twin) = (rollouts(), Twin::new());
    let mut server = Server::start("a8");
    server.reset(0);
    let mut obs = rollouts.obs[0];
    (obs[3], obs[24]) = (1e6, -1e6);
    let reply = server.step(&obs);
    assert_eq!(reply["clipped"], json!([3, 24]));
    assert_eq!(reply, twin.requested(&obs, Some(Width::A8)));
    server.end();
}

#[test]
fn unknown_width_is_named() {
    let obs = rollouts().obs[0];
    let mut server = Server::start("a8");
    server.reset(0);
    for name in ["a3", "A4", "", "w4a16"] {
        let reply = server.send(&json!({"obs": obs, "width": name}));
        let error = reply["error"].as_str().unwrap();
        assert!(
            error.contains(&format!("`{name}`")) && error.contains("plain"),
            "{error}"
        );
    }
    assert_eq!(server.step(&obs)["step"], 0);
    server.end();
}
