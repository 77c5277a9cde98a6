//! Layers that are skipped by chance.

use serde_json::{Value, json};
use w4ax_robot::paths::{DEEP_POLICY, DEEP_ROLLOUTS, SKIP};
use w4ax_robot::rollouts::Rollouts;

use crate::server::{Server, refusal};

const BLOCKS: u64 = 16;

/// Returns the replies of a server with these options to the first steps of an episode.
fn replies(options: &[&str], rollouts: &Rollouts, steps: usize) -> Vec<Value> {
    let files = ["--policy", DEEP_POLICY, "--width", "a8"];
    let mut server = Server::start_with(&[&files, options].concat());
    server.reset(0);
    let replies = rollouts.obs[..steps]
        .iter()
        .map(|obs| server.step(obs))
        .collect();
    server.end();
    replies
}

fn layers(replies: &[Value]) -> Vec<u64> {
    replies
        .iter()
        .map(|reply| reply["layers"].as_u64().unwrap())
        .collect()
}

#[test]
fn no_layer_is_skipped_without_a_probability() {
    let rollouts = Rollouts::load(DEEP_ROLLOUTS).unwrap();
    let skipping = replies(&["--skip", SKIP, "--random-skip", "0"], &rollouts, 30);
    let mut expected = replies(&[], &rollouts, 30);
    for reply in &mut expected {
        reply["layers"] = json!(BLOCKS);
        reply["reran"] = json!(false);
    }
    assert_eq!(skipping, expected);
}

/// The mean number of layers falls linearly, within four standard errors, and the seed decides
/// which steps skip.
#[test]
fn layers_run_with_the_probability() {
    let rollouts = Rollouts::load(DEEP_ROLLOUTS).unwrap();
    let with = |p: &str, seed: &str| {
        let options = ["--skip", SKIP, "--random-skip", p, "--seed", seed];
        layers(&replies(&options, &rollouts, 200))
    };
    let fewest = with("1", "0")[0];
    assert!(fewest > 0 && fewest < BLOCKS);
    assert!(with("1", "0").iter().all(|layers| *layers == fewest));
    let (some, skippable) = (with("0.4", "1"), (BLOCKS - fewest) as f64);
    let mean = some.iter().sum::<u64>() as f64 / some.len() as f64;
    let error = (skippable * 0.4 * 0.6 / some.len() as f64).sqrt();
    assert!(
        (mean - (BLOCKS as f64 - 0.4 * skippable)).abs() < 4.0 * error,
        "{mean}"
    );
    assert_eq!(with("0.4", "1"), some);
    assert_ne!(with("0.4", "2"), some);
}

/// The draws continue over the episodes, and no step runs again.
#[test]
fn episodes_have_their_own_draws() {
    let rollouts = Rollouts::load(DEEP_ROLLOUTS).unwrap();
    let options = [
        "--policy",
        DEEP_POLICY,
        "--skip",
        SKIP,
        "--random-skip",
        "0.5",
    ];
    let mut server = Server::start_with(&options);
    let description = server.send(&json!({"describe": true}));
    let fields = [&description["skip"], &description["random_skip"]];
    assert_eq!(fields, [&json!(true), &json!(0.5)]);
    let mut episode = |width: &str| {
        server.reset(0);
        let replies = rollouts.obs[..60].iter().map(|obs| {
            let reply = server.step_of(&json!({"obs": obs, "width": width}));
            assert_eq!(reply["reran"], false);
            reply
        });
        layers(&replies.collect::<Vec<_>>())
    };
    let episodes = ["a8", "a8", "plain"].map(&mut episode);
    assert_ne!(episodes[0], episodes[1]);
    assert!(
        episodes[2].iter().any(|layers| *layers < BLOCKS),
        "{episodes:?}"
    );
    server.end();
}

#[test]
fn wrong_options_are_named() {
    for (options, named) in [
        (&["--random-skip", "0.5"][..], "--skip"),
        (&["--skip", SKIP, "--seed", "1"], "--random-skip"),
        (
            &["--skip", SKIP, "--random-skip", "1.5"],
            "expected a number in [0, 1]",
        ),
        (
            &["--skip", SKIP, "--random-skip", "NaN"],
            "expected a number in [0, 1]",
        ),
        (
            &[
                "--skip",
                SKIP,
                "--random-skip",
                "1",
                "--guide",
                "0.2,0.02,0.5",
            ],
            "--guide",
        ),
        (
            &["--skip", SKIP, "--random-skip", "1", "--verify", "off"],
            "--verify",
        ),
    ] {
        let (status, error) = refusal(options);
        assert_eq!(status, Some(2), "{error}");
        assert!(error.contains(named), "{error}");
    }
}
