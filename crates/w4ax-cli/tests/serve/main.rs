//! `w4ax serve` over real pipes.

mod skipping;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use w4ax::Width;
use w4ax::calibrate::Calibration;
use w4ax::cpu::Cpu;
use w4ax::dispatch::Dispatcher;
use w4ax_robot::checkpoint::{Checkpoint, TRAINED};
use w4ax_robot::policy::Policy;
use w4ax_robot::rollouts::{RECORDED, Rollouts, action};
use w4ax_robot::setup::{QUANTIZE, default_calibration};

struct Server {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Server {
    fn start(width: &str) -> Self {
        Self::start_with(&["--width", width])
    }

    fn start_with(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_w4ax"))
            .arg("serve")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: process.stdin.take().unwrap(),
            output: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    /// Writes a line and returns the reply. The next line is written after the reply has arrived.
    fn request(&mut self, line: &[u8]) -> Value {
        self.input.write_all(line).unwrap();
        self.input.write_all(b"\n").unwrap();
        let mut reply = String::new();
        self.output.read_line(&mut reply).unwrap();
        assert!(reply.ends_with('\n'), "{reply}");
        serde_json::from_str(&reply).unwrap()
    }

    fn reset(&mut self, task: usize) {
        let line = json!({"reset": true, "task": task}).to_string();
        assert_eq!(self.request(line.as_bytes()), json!({"ok": true}));
    }

    /// Returns a reply without its time, which must be present.
    fn step(&mut self, obs: &[f32]) -> Value {
        self.step_of(obs, 4)
    }

    /// Returns a reply of this many fields.
    fn step_of(&mut self, obs: &[f32], count: usize) -> Value {
        let mut reply = self.request(json!({"obs": obs}).to_string().as_bytes());
        let fields = reply.as_object_mut().unwrap();
        assert_eq!(fields.len(), count, "{fields:?}");
        assert!(fields.remove("micros").unwrap().is_u64());
        reply
    }

    /// The output has ended, and the exit code is 0.
    fn end(self) {
        let Self {
            mut process,
            input,
            mut output,
        } = self;
        drop(input);
        let mut rest = String::new();
        output.read_line(&mut rest).unwrap();
        assert_eq!(rest, "");
        assert_eq!(process.wait().unwrap().code(), Some(0));
    }
}

fn rollouts() -> Rollouts {
    Rollouts::load(RECORDED).unwrap()
}

/// Lines that must be rejected.
fn bad_lines() -> Vec<Vec<u8>> {
    let obs = |first: &str, numbers: usize| {
        let rest = ",0".repeat(numbers - 1);
        format!("{{\"obs\": [{first}{rest}]}}")
    };
    let text = [
        "",
        "   ",
        "hello",
        "{",
        "[]",
        "null",
        "[true, 0]",
        "{}",
        r#"{"reset": true}"#,
        r#"{"task": 0}"#,
        r#"{"reset": false, "task": 0}"#,
        r#"{"reset": 1, "task": 0}"#,
        r#"{"reset": true, "task": 6}"#,
        r#"{"reset": true, "task": -1}"#,
        r#"{"reset": true, "task": 0.5}"#,
        r#"{"reset": true, "task": "Lift"}"#,
        r#"{"reset": true, "task": 0, "seed": 1}"#,
        r#"{"obs": null}"#,
        r#"{"obs": 3}"#,
        r#"{"obs": []}"#,
        r#"{"obs": {}}"#,
        &obs("0", 24),
        &obs("0", 26),
        &obs("null", 25),
        &obs("\"0\"", 25),
        &obs("true", 25),
        &obs("NaN", 25),
        &obs("1e39", 25),
        &obs("-1e400", 25),
        &obs("0", 25).replace('}', ", \"task\": 0}"),
        &obs("0", 25).replace('}', ", \"reset\": true, \"task\": 0}"),
        &obs("0", 25).replace('}', ", \"width\": 2}"),
        &obs("0", 25).repeat(2),
        &format!("{}{}", obs("0", 25), "x".repeat(100_000)),
        &"[".repeat(60_000),
        &"[".repeat(3_000_000),
    ];
    let mut lines: Vec<Vec<u8>> = text.map(|line| line.as_bytes().to_vec()).into();
    lines.push(vec![0xFF, 0xFE, 0x00]);
    lines.push(b"{\"obs\": \"\xC3\x28\"}".to_vec());
    lines
}

#[test]
fn fixed_width_is_used_for_every_step() {
    let rollouts = rollouts();
    for (name, bits) in [("a2", 2), ("a4", 4), ("a8", 8), ("bf16", 16)] {
        let mut server = Server::start(name);
        server.reset(rollouts.task[0]);
        for obs in &rollouts.obs[..4] {
            let reply = server.step(obs);
            assert_eq!(reply["width"], bits);
            assert_eq!(reply["sensitivity"], Value::Null);
            let action = reply["action"].as_array().unwrap();
            assert!(action.len() == 7 && action.iter().all(|a| a.as_f64().unwrap().abs() <= 1.0));
        }
        server.end();
    }
}

/// The server's replies equal those of a dispatcher and a policy in this process.
#[test]
fn dynamic_width_follows_the_served_actions() {
    let rollouts = rollouts();
    let checkpoint = Checkpoint::load(TRAINED).unwrap();
    let calibration = Calibration::load(default_calibration(TRAINED)).unwrap();
    let mut policy = Policy::new(&checkpoint, QUANTIZE, Cpu::new().unwrap(), 1).unwrap();
    let mut server = Server::start("dynamic");
    let mut widths = std::collections::BTreeSet::new();
    for episode in [&rollouts.episodes()[0], &rollouts.episodes()[7]] {
        let task = rollouts.task[episode.start];
        server.reset(task);
        let config = calibration.dispatch_config(&policy.tasks()[task]).unwrap();
        let mut dispatcher = Dispatcher::new(&config).unwrap();
        for row in episode.clone().take(60) {
            let reply = server.step(&rollouts.obs[row]);
            let decision = dispatcher.decide();
            let input = policy.input(&rollouts.obs[row], task).unwrap();
            let action = action(&policy.forward(&input, decision.active).unwrap());
            dispatcher.observe(&action).unwrap();
            let expected = json!({
                "action": action,
                "width": decision.active.bits(),
                "sensitivity": decision.sensitivity
            });
            assert_eq!(reply, expected, "row {row}");
            if row == episode.start {
                assert_eq!((decision.active, decision.sensitivity), (Width::Bf16, 1.0));
            }
            widths.insert(decision.active.bits());
        }
    }
    assert!(widths.len() > 1, "only {widths:?}");
    server.end();
}

/// Every bad line gets one error. The other lines get the replies that they get without the bad
/// ones.
#[test]
fn bad_line_changes_no_state() {
    let rollouts = rollouts();
    let bad = bad_lines();
    let mut clean = Server::start("dynamic");
    let mut disturbed = Server::start("dynamic");
    let mut next = bad.iter().cycle();
    let mut disturb = |server: &mut Server| {
        for line in next.by_ref().take(3) {
            let reply = server.request(line);
            let fields = reply.as_object().unwrap();
            let start = String::from_utf8_lossy(&line[..line.len().min(60)]);
            assert!(
                fields.len() == 1 && fields["error"].is_string(),
                "{start}: {reply}"
            );
        }
    };
    let step = json!({"obs": rollouts.obs[0]}).to_string();
    let early = disturbed.request(step.as_bytes());
    assert!(
        early["error"].as_str().unwrap().contains("reset"),
        "{early}"
    );
    disturb(&mut disturbed);
    for server in [&mut clean, &mut disturbed] {
        server.reset(rollouts.task[0]);
    }
    for obs in &rollouts.obs[..30] {
        disturb(&mut disturbed);
        assert_eq!(disturbed.step(obs), clean.step(obs));
    }
    clean.end();
    disturbed.end();
}

#[test]
fn closed_input_or_output_ends_without_error() {
    Server::start("a8").end();

    // The last line may have no end.
    let mut server = Server::start("a8");
    server
        .input
        .write_all(b"{\"reset\": true, \"task\": 1}")
        .unwrap();
    let Server {
        mut process,
        input,
        mut output,
    } = server;
    drop(input);
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"ok\":true}\n");
    assert_eq!(process.wait().unwrap().code(), Some(0));

    // The reader has closed its end.
    let Server {
        mut process,
        mut input,
        output,
    } = Server::start("a8");
    drop(output);
    while input.write_all(b"{}\n").is_ok() {}
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

#[test]
fn bad_file_is_named() {
    for option in ["--policy", "--calibration", "--skip"] {
        let output = Command::new(env!("CARGO_BIN_EXE_w4ax"))
            .arg("serve")
            .args([option, RECORDED])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("rollouts.safetensors"), "{error}");
    }
    // A missing calibration is not replaced by that of another policy.
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.safetensors");
    std::fs::copy(TRAINED, &policy).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .arg("serve")
        .arg("--policy")
        .arg(&policy)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("calibration.json"), "{error}");
}
