//! The server skips layers by its options.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use test_support::random_skip_file;
use w4ax::calibrate::Calibration;
use w4ax::cpu::Cpu;
use w4ax::dispatch::Dispatcher;
use w4ax::skip::{SkipConfig, Verdict, Verify};
use w4ax::step::StepPipeline;
use w4ax::{Error, Width};

use crate::rollouts;
use crate::server::Server;
use crate::twin::{self, action_of, add_decision};
use w4ax_robot::checkpoint::{Checkpoint, TRAINED};
use w4ax_robot::networks::AdapterWeights;
use w4ax_robot::policy::Policy;
use w4ax_robot::rollouts::Rollouts;
use w4ax_robot::setting::{HALF, Setting, Verification};
use w4ax_robot::setup::QUANTIZE;
use w4ax_robot::skipping::Skipping;
use w4ax_robot::steps::PolicyEngine;

const DEEP: &str = w4ax_robot::paths::DEEP;

/// A server that skips, and the same policy in this process.
struct SkippingTwin {
    server: Server,
    policy: Policy,
    skipping: Skipping,
    /// By task; `None` at 8 bits.
    dispatchers: Option<Vec<Dispatcher>>,
}

impl SkippingTwin {
    /// Starts a server with these options, and the policy with the same configuration.
    fn start(
        (policy, skip): (&Path, &Path),
        options: &[&str],
        config: &SkipConfig,
        dynamic: bool,
    ) -> Self {
        let checkpoint = Checkpoint::load(policy).unwrap();
        let files = [policy, skip].map(|path| path.to_str().unwrap());
        let files = ["--policy", files[0], "--skip", files[1]];
        let width = ["--width", if dynamic { "dynamic" } else { "a8" }];
        // The thresholds and scales are those in the folder of the policy.
        let beside = policy.with_file_name("calibration.json");
        let dispatchers = dynamic.then(|| {
            let calibration = Calibration::load(beside).unwrap();
            let dispatcher = |task| {
                let config = calibration.dispatch_config(task).unwrap();
                Dispatcher::new(&config).unwrap()
            };
            checkpoint
                .tasks
                .iter()
                .map(|task| dispatcher(task))
                .collect()
        });
        let policy = Policy::new(&checkpoint, QUANTIZE, Cpu::new().unwrap(), 1).unwrap();
        Self {
            server: Server::start_with(&[&files[..], &width, options].concat()),
            skipping: Skipping::load(skip, &policy, AdapterWeights::Packed, config).unwrap(),
            policy,
            dispatchers,
        }
    }

    /// Runs `steps` steps of two episodes: both give the same replies. Returns the layers that ran,
    /// whether a second pass ran, and the width of each step.
    fn agree(&mut self, rollouts: &Rollouts, steps: usize) -> Vec<(usize, bool, u32)> {
        let mut seen = Vec::new();
        for episode in [&rollouts.episodes()[0], &rollouts.episodes()[7]] {
            let task = rollouts.task[episode.start];
            self.server.reset(task);
            self.skipping.skipper.reset();
            let mut dispatcher = self.dispatchers.as_ref().map(|all| all[task].clone());
            for row in episode.clone().take(steps) {
                let reply = self.server.step(&rollouts.obs[row]);
                let decision = dispatcher.as_mut().map(Dispatcher::decide);
                let width = decision.map_or(Width::A8, |decision| decision.active);
                let input = self.policy.input(&rollouts.obs[row], task).unwrap();
                let engine = PolicyEngine::new(&mut self.policy, &mut self.skipping);
                let mut pipeline = StepPipeline::new(engine, None);
                pipeline.request(width).unwrap();
                pipeline.run(&input).unwrap();
                let engine = pipeline.engine();
                let uncertainty = [engine.token_std(), engine.margin()];
                let step = (row - episode.start) as u64;
                let mut expected = twin::reply(step, &self.policy, &input, Some(width));
                assert_eq!(
                    uncertainty,
                    ["token_std", "margin"].map(|f| expected[f].as_f64())
                );
                let report = self.skipping.skipper.report();
                let reran = report.verdict == Verdict::RanAgain;
                expected["layers"] = json!(report.layers_run);
                expected["reran"] = json!(reran);
                if let (Some(dispatcher), Some(decision)) = (&mut dispatcher, &decision) {
                    add_decision(&mut expected, decision);
                    dispatcher.observe(&action_of(&expected)).unwrap();
                }
                assert_eq!(reply, expected, "row {row}");
                seen.push((report.layers_run, reran, width.bits()));
            }
        }
        seen
    }
}

/// The server's replies equal those of the same networks in this process, guided and verified by
/// the options. A reset also begins an episode for skipping.
#[test]
fn skipping_follows_the_served_actions() {
    let rollouts = rollouts();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("skip.safetensors");
    let checkpoint = Checkpoint::load(TRAINED).unwrap();
    let file = random_skip_file(checkpoint.blocks.len(), checkpoint.d(), &[0], 0.0);
    file.save(&path).unwrap();
    let other = Setting {
        eta: 0.07,
        eta2: 0.3,
        threshold: 0.45,
    };
    let guide = other.to_string();
    assert_eq!(guide, "0.07,0.3,0.45");
    let mut all = Vec::new();
    for (options, config) in [
        (vec![], HALF.config(Verification::FirstDrop)),
        (
            vec!["--guide", &guide],
            other.config(Verification::FirstDrop),
        ),
        (
            vec!["--verify", "paper", "--guide", "0.05,0.05,0.5"],
            SkipConfig::default().with_verify(Verify::RiseThenDrop),
        ),
        (vec!["--verify", "off"], HALF.config(Verification::Off)),
    ] {
        let mut twin = SkippingTwin::start((TRAINED.as_ref(), &path), &options, &config, false);
        let seen = twin.agree(&rollouts, 60);
        let ran: BTreeSet<_> = seen.iter().map(|step| step.0).collect();
        assert!(ran.len() > 1, "only {ran:?} with {options:?}");
        assert_eq!(
            options == ["--verify", "off"],
            seen.iter().all(|step| !step.1),
            "re-runs with {options:?}"
        );
        twin.server.end();
        assert!(!all.contains(&seen), "{options:?} changes nothing");
        all.push(seen);
    }
}

/// With random networks, and with the files of the README.
#[test]
fn layers_that_run_have_the_dispatchers_width() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("skip.safetensors");
    let checkpoint = Checkpoint::load(TRAINED).unwrap();
    let file = random_skip_file(checkpoint.blocks.len(), checkpoint.d(), &[0], 0.0);
    file.save(&path).unwrap();
    let deep = |name| Path::new(DEEP).join(name);
    let of_deep = Rollouts::load(deep("deep_rollouts.safetensors")).unwrap();
    let (policy, skip) = (deep("deep_policy.safetensors"), deep("skip.safetensors"));
    for (files, rollouts) in [
        ((Path::new(TRAINED), path.as_path()), rollouts()),
        ((policy.as_path(), skip.as_path()), of_deep),
    ] {
        let config = HALF.config(Verification::FirstDrop);
        let mut twin = SkippingTwin::start(files, &[], &config, true);
        let seen = twin.agree(&rollouts, 60);
        let ran: BTreeSet<_> = seen.iter().map(|step| step.0).collect();
        let widths: BTreeSet<_> = seen.iter().map(|step| step.2).collect();
        assert!(
            ran.len() > 1 && widths.len() > 1,
            "only {ran:?}, {widths:?}"
        );
        twin.server.end();
    }
}

/// A step at the width `plain` has the unquantized policy and BF16 adapters, and the guide's
/// history of the steps before it.
#[test]
fn plain_step_skips_by_the_same_guide() {
    let rollouts = rollouts();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("skip.safetensors");
    let checkpoint = Checkpoint::load(TRAINED).unwrap();
    let file = random_skip_file(checkpoint.blocks.len(), checkpoint.d(), &[0], 0.0);
    file.save(&path).unwrap();
    let config = HALF.config(Verification::FirstDrop);
    let cpu = Cpu::new().unwrap();
    let mut quantized = Policy::new(&checkpoint, QUANTIZE, cpu.clone(), 1).unwrap();
    let mut plain = Policy::unquantized(&checkpoint, cpu, 1).unwrap();
    let load = |policy: &Policy, weights| Skipping::load(&path, policy, weights, &config).unwrap();
    let mut skipping = load(&quantized, AdapterWeights::Packed);
    let mut networks = load(&plain, AdapterWeights::Bf16).networks;
    let mut server = Server::start_with(&["--skip", path.to_str().unwrap(), "--width", "a4"]);
    server.reset(0);
    let mut ran = BTreeSet::new();
    for (step, obs) in rollouts.obs[..60].iter().enumerate() {
        let is_plain = step % 3 > 0;
        let mut request = json!({"obs": obs});
        if is_plain {
            request["width"] = json!("plain");
        }
        let got = server.step_of(&request);
        let (policy, width) = match is_plain {
            true => (&mut plain, None),
            false => (&mut quantized, Some(Width::A4)),
        };
        let input = policy.input(obs, 0).unwrap();
        if is_plain {
            std::mem::swap(&mut skipping.networks, &mut networks);
        }
        let mut pipeline = StepPipeline::new(PolicyEngine::new(&mut *policy, &mut skipping), None);
        pipeline.request(Width::A4).unwrap();
        pipeline.run(&input).unwrap();
        if is_plain {
            std::mem::swap(&mut skipping.networks, &mut networks);
        }
        let report = skipping.skipper.report();
        let mut expected = twin::reply(step as u64, policy, &input, width);
        expected["layers"] = json!(report.layers_run);
        expected["reran"] = json!(report.verdict == Verdict::RanAgain);
        assert_eq!(got, expected, "step {step}");
        ran.insert((is_plain, report.layers_run));
    }
    assert!(ran.len() > 3, "only {ran:?}");
    server.end();
}

#[test]
fn bad_setting_is_named() {
    for (arguments, words) in [
        (
            ["--guide", "0.2,0.02"],
            "expected three comma-separated numbers",
        ),
        (["--guide", "0.2,x,0.5"], "eta2 is `x`"),
        (["--guide", "0,0.02,0.5"], "eta1 is 0"),
        (["--guide", "0.2,-1,0.5"], "eta2 is -1"),
        (["--guide", "0.2,0.02,1.5"], "threshold is 1.5"),
        (["--guide", "0.2,0.02,NaN"], "threshold is NaN"),
        (["--verify", "twice"], "first-drop"),
    ] {
        let run = |more: &[&str]| {
            let output = Command::new(env!("CARGO_BIN_EXE_w4ax"))
                .arg("serve")
                .args(arguments)
                .args(more)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(2));
            String::from_utf8(output.stderr).unwrap()
        };
        let error = run(&["--skip", "some"]);
        assert!(
            error.contains(words) && error.contains(arguments[0]),
            "{error}"
        );
    }
    let error = "0.2,x,0.5".parse::<Setting>().unwrap_err();
    assert!(
        matches!(error, Error::Config { field: "eta2", .. }),
        "{error}"
    );
    let error = "0.2".parse::<Setting>().unwrap_err();
    assert!(matches!(error, Error::Range { .. }), "{error}");
    // A guide without networks is rejected.
    let output = Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .arg("serve")
        .args(["--guide", "0.2,0.02,0.5"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("--skip"), "{error}");
}
