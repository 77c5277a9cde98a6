//! An early exit.

use serde_json::{Value, json};
use test_support::random_skip_file;
use w4ax_robot::paths::{DEEP_POLICY, DEEP_ROLLOUTS, SKIP, SKIP_EXIT};
use w4ax_robot::rollouts::Rollouts;

use crate::server::{Server, refusal};

const BLOCKS: usize = 16;
const WIDTH: usize = 192;
const EXIT: usize = 5;

/// Returns the replies of a server with these options to the first steps of an episode.
fn replies(options: &[&str], rollouts: &Rollouts, width: &str) -> Vec<Value> {
    let mut server = Server::start_with(&[&["--policy", DEEP_POLICY], options].concat());
    server.reset(0);
    let steps = rollouts.obs[..20].iter();
    let replies = steps.map(|obs| server.step_of(&json!({"obs": obs, "width": width})));
    let replies = replies.collect();
    server.end();
    replies
}

/// An exit is a gap to the end of the stack that every step skips whole: both have the same bits if
/// they have the same adapter.
#[test]
fn exit_is_a_gap_that_is_always_skipped() {
    let rollouts = Rollouts::load(DEEP_ROLLOUTS).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (gap, exit) = (path("gap.safetensors"), path("exit.safetensors"));
    let mut file = random_skip_file(BLOCKS, WIDTH, &[0, 1, 2, 3, 4], 0.0);
    file.save(&gap).unwrap();
    file.exit = Some(file.adapters[&EXIT].clone());
    file.config.exit = Some(EXIT);
    file.save(&exit).unwrap();
    for width in ["a4", "a8", "plain"] {
        let skipped = replies(&["--skip", &gap, "--random-skip", "1"], &rollouts, width);
        let left = replies(&["--exit", &exit], &rollouts, width);
        assert_eq!(left, skipped, "{width}");
        assert!(left.iter().all(|reply| reply["layers"] == EXIT), "{left:?}");
        let full = replies(&[], &rollouts, width);
        assert_ne!(left[0]["action"], full[0]["action"], "{width}");
    }
}

#[test]
fn description_has_the_exit() {
    let of = |options: &[&str]| {
        let mut server = Server::start_with(&[&["--policy", DEEP_POLICY], options].concat());
        let description = server.send(&json!({"describe": true}));
        server.end();
        ["skip", "exit"].map(|field| description[field].clone())
    };
    let [skip, exit] = of(&["--exit", SKIP_EXIT]);
    assert_eq!(skip, false);
    assert!(
        exit.as_u64().is_some_and(|exit| exit < BLOCKS as u64),
        "{exit}"
    );
    assert_eq!(of(&["--skip", SKIP]), [json!(true), Value::Null]);
    assert_eq!(of(&[]), [json!(false), Value::Null]);
}

#[test]
fn wrong_options_are_named() {
    for (options, code, words) in [
        (&["--exit", SKIP_EXIT, "--skip", SKIP][..], 2, "--skip"),
        (&["--exit", SKIP_EXIT, "--verify", "off"], 2, "--verify"),
        (
            &["--exit", SKIP_EXIT, "--random-skip", "1"],
            2,
            "--random-skip",
        ),
        (&["--adapters", "bf16"], 2, "--exit"),
        (
            &["--policy", DEEP_POLICY, "--exit", SKIP],
            1,
            "it has no early exit",
        ),
        (&["--exit", SKIP_EXIT], 1, "skip_exit.safetensors"),
    ] {
        let (status, error) = refusal(options);
        assert_eq!(status, Some(code), "{options:?}: {error}");
        assert!(error.contains(words), "{options:?}: {error}");
    }
}
