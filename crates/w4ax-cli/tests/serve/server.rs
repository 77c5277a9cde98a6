//! A server and its pipes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// Returns the exit code and the error output of a server that does not start with these options.
pub fn refusal(options: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .arg("serve")
        .args(options)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), error)
}

/// A server process.
pub struct Server {
    pub process: Child,
    pub input: ChildStdin,
    pub output: BufReader<ChildStdout>,
}

impl Server {
    /// Starts a server whose steps have this width.
    pub fn start(width: &str) -> Self {
        Self::start_with(&["--width", width])
    }

    /// Starts a server with these options.
    pub fn start_with(arguments: &[&str]) -> Self {
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
    pub fn request(&mut self, line: &[u8]) -> Value {
        self.input.write_all(line).unwrap();
        self.input.write_all(b"\n").unwrap();
        let mut reply = String::new();
        self.output.read_line(&mut reply).unwrap();
        assert!(reply.ends_with('\n'), "{reply}");
        serde_json::from_str(&reply).unwrap()
    }

    /// Begins an episode.
    pub fn reset(&mut self, task: usize) {
        let line = json!({"reset": true, "task": task}).to_string();
        assert_eq!(self.request(line.as_bytes()), json!({"ok": true}));
    }

    /// Sends a request of valid JSON.
    pub fn send(&mut self, request: &Value) -> Value {
        self.request(request.to_string().as_bytes())
    }

    /// Returns the reply to an observation without its time, which must be present.
    pub fn step(&mut self, obs: &[f32]) -> Value {
        self.step_of(&json!({"obs": obs}))
    }

    /// Returns the reply to a step without its time, which must be present.
    pub fn step_of(&mut self, request: &Value) -> Value {
        let mut reply = self.send(request);
        let fields = reply.as_object_mut().unwrap();
        assert!(
            fields
                .remove("micros")
                .is_some_and(|micros| micros.is_u64()),
            "{fields:?}"
        );
        reply
    }

    /// The output has ended, and the exit code is 0.
    pub fn end(self) {
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
