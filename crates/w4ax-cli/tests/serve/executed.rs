//! The actions that the robot executed.

use serde_json::{Value, json};

use crate::rollouts;
use crate::server::Server;
use crate::twin::{Twin, action_of};

/// The dispatcher observes the executed actions in place of the replied ones.
#[test]
fn executed_action_replaces_the_replied_one() {
    let (rollouts, mut twin) = (rollouts(), Twin::new());
    let (mut server, mut other) = (Server::start("dynamic"), Server::start("dynamic"));
    server.reset(0);
    other.reset(0);
    let (mut last, mut differ) = (None, 0);
    for (at, obs) in rollouts.obs[..40].iter().enumerate() {
        // The robot holds in every second step.
        let mut request = json!({"obs": obs});
        if at % 2 == 1 {
            last = Some([0.0, 0.0, 0.0, 0.01, -0.02, 0.0, 1.0]);
            request["executed"] = json!(last);
        }
        let reply = server.step_of(&request);
        assert_eq!(reply, twin.dynamic(obs, last), "step {at}");
        differ += u32::from(reply["sensitivity"] != other.step(obs)["sensitivity"]);
        last = Some(action_of(&reply));
    }
    assert!(differ > 30, "S differs in {differ} steps only");
    server.end();
    other.end();
}

#[test]
fn replied_action_may_be_the_executed_one() {
    let rollouts = rollouts();
    let (mut server, mut other) = (Server::start("dynamic"), Server::start("dynamic"));
    server.reset(0);
    other.reset(0);
    let mut last: Option<Value> = None;
    for obs in &rollouts.obs[..20] {
        let mut request = json!({"obs": obs});
        if let Some(action) = last {
            request["executed"] = action;
        }
        let reply = server.step_of(&request);
        assert_eq!(reply, other.step(obs));
        last = Some(reply["action"].clone());
    }
    server.end();
    other.end();
}

#[test]
fn nothing_was_executed_before_the_first_step() {
    let obs = rollouts().obs[0];
    let mut server = Server::start("dynamic");
    for _ in 0..2 {
        server.reset(0);
        let request = json!({"obs": obs, "executed": [0, 0, 0, 0, 0, 0, 1]});
        let reply = server.send(&request);
        let error = reply["error"].as_str().unwrap();
        assert!(
            error.contains("`executed`") && error.contains("first step"),
            "{error}"
        );
        assert_eq!(server.step(&obs)["step"], 0);
        assert_eq!(server.step_of(&request)["step"], 1);
    }
    server.end();
}

/// Finite numbers whose motion overflows are an error too.
#[test]
fn invalid_executed_action_changes_nothing() {
    let rollouts = rollouts();
    let (mut server, mut other) = (Server::start("dynamic"), Server::start("dynamic"));
    server.reset(0);
    other.reset(0);
    for (at, obs) in rollouts.obs[..20].iter().enumerate() {
        if at > 0 {
            for executed in [
                json!([0, 0, 0]),
                json!([1e308, 1e308, 0, 0, 0, 0, 0]),
                json!([]),
            ] {
                let reply = server.send(&json!({"obs": obs, "executed": executed}));
                assert!(reply["error"].is_string(), "{reply}");
            }
        }
        assert_eq!(server.step(obs), other.step(obs));
    }
    server.end();
    other.end();
}
