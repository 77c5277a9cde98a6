//! Smallest widths of layers.

use std::process::{Command, Stdio};

use serde_json::json;
use test_support::random_skip_file;
use w4ax::Width;
use w4ax::dispatch::LayerFloors;
use w4ax_robot::checkpoint::{Checkpoint, TRAINED};

use crate::rollouts;
use crate::server::Server;
use crate::twin::Twin;

/// A step reports its own width; its layers run at the larger one.
#[test]
fn layers_run_at_their_floors() {
    let (rollouts, mut twin) = (rollouts(), Twin::new());
    let [a2, a4, a8, _] = Width::ALL;
    let floors = LayerFloors::new(vec![a4, a2, a2, a8, a2]);
    twin.quantized.set_floors(&floors).unwrap();
    let mut floored = Server::start_with(&["--floors", "3=a8,0=a4"]);
    let mut other = Server::start("dynamic");
    let description = floored.send(&json!({"describe": true}));
    assert_eq!(description["floors"], json!({"0": "a4", "3": "a8"}));
    assert_eq!(other.send(&json!({"describe": true}))["floors"], json!({}));
    floored.reset(0);
    other.reset(0);
    let mut differ = [0; 4];
    for (at, obs) in rollouts.obs[..40].iter().enumerate() {
        let width = Width::ALL[at % 4];
        let request = json!({"obs": obs, "width": width.to_string()});
        let reply = floored.step_of(&request);
        assert_eq!(reply, twin.requested(obs, Some(width)));
        differ[at % 4] += u32::from(reply != other.step_of(&request));
    }
    assert!(differ[0] > 5 && differ[1] > 5, "{differ:?}");
    assert_eq!(differ[2..], [0, 0]);
    // The unquantized policy has no floors.
    let request = json!({"obs": rollouts.obs[40], "width": "plain"});
    assert_eq!(floored.step_of(&request), other.step_of(&request));
    floored.end();
    other.end();
}

/// Two servers give the same replies at these options and widths.
fn same(a: (&[&str], &str), b: (&[&str], &str), skip: &[&str]) {
    let rollouts = rollouts();
    let start = |options: &[&str]| Server::start_with(&[options, skip].concat());
    let mut servers = [(start(a.0), a.1), (start(b.0), b.1)];
    for (server, _) in &mut servers {
        server.reset(0);
    }
    for obs in &rollouts.obs[..30] {
        let replies = servers.each_mut().map(|(server, width)| {
            let mut reply = server.step_of(&json!({"obs": obs, "width": width}));
            reply.as_object_mut().unwrap().remove("width");
            reply
        });
        assert_eq!(replies[0], replies[1]);
    }
    for (server, _) in servers {
        server.end();
    }
}

#[test]
fn floors_of_all_layers_are_the_width() {
    let all = |width: &str| {
        ["0", "1", "2", "3", "head"]
            .map(|at| format!("{at}={width}"))
            .join(",")
    };
    let (a2, a8) = (all("a2"), all("a8"));
    for width in ["a2", "a4", "a8", "bf16"] {
        same((&["--floors", &a2], width), (&[], width), &[]);
    }
    same((&["--floors", &a8], "a2"), (&[], "a8"), &[]);
}

/// Layers that run have their floors with `--skip` too.
#[test]
fn floors_hold_when_layers_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("skip.safetensors");
    let checkpoint = Checkpoint::load(TRAINED).unwrap();
    // No controller skips, so no adapter runs.
    let file = random_skip_file(checkpoint.blocks.len(), checkpoint.d(), &[0], -40.0);
    file.save(&path).unwrap();
    let skip = ["--skip", path.to_str().unwrap()];
    let all = "0=a8,1=a8,2=a8,3=a8,head=a8";
    same((&["--floors", all], "a4"), (&[], "a8"), &skip);
}

#[test]
fn wrong_floor_is_named() {
    for (floors, code, words) in [
        ("x=a4", 2, "`x=a4`"),
        ("1=a3", 2, "`a3`"),
        ("1", 2, "`1`"),
        ("4=a4", 1, "`4=a4` of a policy of 4 blocks"),
        ("head=a4,head=a8", 1, "`head=a8`"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_w4ax"))
            .args(["serve", "--floors", floors])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(
            error.contains(words) && error.contains("--floors"),
            "{error}"
        );
    }
}
