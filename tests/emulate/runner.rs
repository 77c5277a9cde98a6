//! Drives the runner processes of `kernels/emulate`: one process for each sanitizer and
//! architecture. `kernels/emulate/runner.cpp` documents the protocol.

use crate::build::{Variant, directory};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

/// A buffer that starts `shift` bytes past a multiple of `align`.
struct Buffer {
    name: &'static str,
    bytes: Vec<u8>,
    align: usize,
    shift: usize,
    output: bool,
}

/// One call of a function of `kernels/api/w4ax_kernels.h`, with its buffers.
pub struct Request {
    function: &'static str,
    options: Vec<(&'static str, i64)>,
    arguments: Vec<(&'static str, i64)>,
    buffers: Vec<Buffer>,
}

impl Request {
    /// A call of `w4axk_<function>`, or of one of the sequences that runner.cpp lists.
    pub fn new(function: &'static str) -> Self {
        Self {
            function,
            options: Vec::new(),
            arguments: Vec::new(),
            buffers: Vec::new(),
        }
    }

    /// Sets an option of the emulator: `seed`, `cp_async`, `schedule` or `bf16_sum`.
    pub fn set(mut self, option: &'static str, value: i64) -> Self {
        self.options.push((option, value));
        self
    }

    /// Sets a field of the arguments. A field that is not set is 0.
    pub fn arg(mut self, name: &'static str, value: impl TryInto<i64, Error: fmt::Debug>) -> Self {
        let value = value.try_into().expect("an argument fits in 64 bits");
        self.arguments.push((name, value));
        self
    }

    /// Adds a buffer that the kernels may read. A pointer without a buffer is null.
    pub fn input<T: bytemuck::NoUninit>(
        self,
        name: &'static str,
        values: &[T],
        align: usize,
    ) -> Self {
        self.buffer(name, bytemuck::cast_slice(values), align, 0, false)
    }

    /// Adds a buffer that the kernels may read and write. The reply contains it.
    pub fn output<T: bytemuck::NoUninit>(
        self,
        name: &'static str,
        values: &[T],
        align: usize,
    ) -> Self {
        self.buffer(name, bytemuck::cast_slice(values), align, 0, true)
    }

    /// Adds a buffer that starts `shift` bytes past a multiple of `align`.
    pub fn buffer(
        mut self,
        name: &'static str,
        bytes: &[u8],
        align: usize,
        shift: usize,
        output: bool,
    ) -> Self {
        self.buffers.push(Buffer {
            name,
            bytes: bytes.to_vec(),
            align,
            shift,
            output,
        });
        self
    }

    fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        writeln!(to, "case {}", self.function)?;
        for (name, value) in &self.options {
            writeln!(to, "set {name} {value}")?;
        }
        for (name, value) in &self.arguments {
            writeln!(to, "arg {name} {value}")?;
        }
        for b in &self.buffers {
            let kind = if b.output { "io" } else { "in" };
            let (name, len, align, shift) = (b.name, b.bytes.len(), b.align, b.shift);
            writeln!(to, "{kind} {name} {len} {align} {shift}")?;
            to.write_all(&b.bytes)?;
        }
        writeln!(to, "run")?;
        to.flush()
    }
}

/// The results of a call.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The `w4axk_status`.
    pub status: i32,
    pub outputs: BTreeMap<String, Vec<u8>>,
    /// Integers that the function returned by pointer, and what latches and skip kernels did.
    pub values: BTreeMap<String, u64>,
    /// The emulator's counters of the call.
    pub counters: BTreeMap<String, u64>,
}

impl Reply {
    /// Returns an output buffer as values of the type that was sent.
    pub fn output<T: bytemuck::Pod>(&self, name: &str) -> Vec<T> {
        bytemuck::allocation::pod_collect_to_vec(&self.outputs[name])
    }
}

/// A runner process. It is started again after a sanitizer's report has ended it.
pub struct Runner {
    program: PathBuf,
    process: Option<Process>,
}

struct Process {
    child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
    reports: JoinHandle<String>,
}

impl Runner {
    /// Returns the runner of a variant and an architecture (800 or 900), which must be built.
    pub fn new(variant: Variant, architecture: u32) -> Self {
        let program = directory().join(format!("runner-{}-{architecture}", variant.name()));
        let process = None;
        Self { program, process }
    }

    /// Runs one case.
    ///
    /// # Errors
    /// The text of the emulator's error, or the sanitizer's report.
    pub fn run(&mut self, request: &Request) -> Result<Reply, String> {
        let program = &self.program;
        let process = self.process.get_or_insert_with(|| Process::start(program));
        // If writing fails, the process has ended: its standard error contains the reason.
        let written = request.write(&mut process.requests);
        let reply = match written {
            Ok(()) => process.read_reply(),
            Err(_) => None,
        };
        match reply {
            Some(reply) => reply,
            None => Err(self.process.take().expect("started above").end()),
        }
    }
}

impl Process {
    fn start(program: &Path) -> Self {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{} does not start: {e}", program.display()));
        let mut errors = child.stderr.take().expect("piped above");
        Self {
            requests: child.stdin.take().expect("piped above"),
            replies: BufReader::new(child.stdout.take().expect("piped above")),
            // Read by a thread: a long report must not fill the pipe.
            reports: std::thread::spawn(move || {
                let mut text = Vec::new();
                let _ = errors.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            }),
            child,
        }
    }

    /// Returns `None` if the process ends before its reply is complete.
    fn read_reply(&mut self) -> Option<Result<Reply, String>> {
        let mut reply = Reply::default();
        loop {
            let mut line = String::new();
            if self.replies.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let (kind, rest) = line.trim_end().split_once(' ')?;
            let named = || rest.rsplit_once(' ');
            match kind {
                "counter" | "value" => {
                    let (name, value) = named()?;
                    let into = if kind == "value" {
                        &mut reply.values
                    } else {
                        &mut reply.counters
                    };
                    into.insert(name.to_owned(), value.parse().ok()?);
                }
                "io" => {
                    let (name, bytes) = named()?;
                    let mut data = vec![0; bytes.parse().ok()?];
                    self.replies.read_exact(&mut data).ok()?;
                    reply.outputs.insert(name.to_owned(), data);
                }
                "done" => {
                    reply.status = rest.parse().ok()?;
                    return Some(Ok(reply));
                }
                "error" => return Some(Err(rest.to_owned())),
                _ => return None,
            }
        }
    }

    /// Ends a process that has stopped replying. Returns its status and its report.
    fn end(mut self) -> String {
        drop(self.requests);
        let _ = self.child.kill();
        let status = self.child.wait();
        let report = self.reports.join().unwrap_or_default();
        match status {
            Ok(status) => format!("the runner ended ({status}):\n{report}"),
            Err(e) => format!("the runner ended ({e}):\n{report}"),
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.requests); // the runner exits at the end of its input
            let _ = process.child.wait();
        }
    }
}
