//! Drives the runner processes of `kernels/emulate`: the kernels' own sources as host code, one process for each sanitizer.
//!
//! `kernels/emulate/build` makes the runners; the protocol is written in `kernels/emulate/runner.cpp`.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

/// What the kernels were built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Plain,
    /// ASan and UBSan.
    Address,
    /// TSan.
    Thread,
}

impl Variant {
    pub const ALL: [Variant; 3] = [Variant::Plain, Variant::Address, Variant::Thread];

    pub fn name(self) -> &'static str {
        match self {
            Variant::Plain => "plain",
            Variant::Address => "address",
            Variant::Thread => "thread",
        }
    }
}

/// Where `kernels/emulate/build` puts what it makes: `W4AX_EMULATE_DIR`, else target/emulate.
pub fn directory() -> PathBuf {
    env::var_os("W4AX_EMULATE_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/emulate"),
        PathBuf::from,
    )
}

/// What `kernels/emulate/build` makes: the emulator's own tests, or the runners of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Tests,
    Kernels,
}

/// Brings a part up to date. Returns what the script had to leave out, as it says it; empty if nothing.
///
/// # Panics
/// If the script fails: its output is the message.
pub fn build(part: Part, variants: &[Variant], architectures: &[u32]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/emulate/build");
    let list = |words: Vec<String>| words.join(" ");
    let output = Command::new(script)
        .args([
            "--only",
            if part == Part::Tests {
                "tests"
            } else {
                "kernels"
            },
            "--variants",
        ])
        .arg(list(variants.iter().map(|v| v.name().into()).collect()))
        .arg("--archs")
        .arg(list(architectures.iter().map(u32::to_string).collect()))
        .arg("--out")
        .arg(directory())
        .output()
        .expect("kernels/emulate/build runs");
    assert!(
        output.status.success(),
        "kernels/emulate/build failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::read_to_string(directory().join("left-out")).unwrap_or_default()
}

struct Buffer {
    name: &'static str,
    bytes: Vec<u8>,
    align: usize,
    shift: usize,
    output: bool,
}

/// One call of a function of `kernels/api/w4ax_kernels.h`, with its buffers.
pub struct Case {
    function: &'static str,
    options: Vec<(&'static str, i64)>,
    arguments: Vec<(&'static str, i64)>,
    buffers: Vec<Buffer>,
}

impl Case {
    /// `gemm`, `quantize_pack`, `plan_gemm` or `packed_bytes`.
    pub fn new(function: &'static str) -> Self {
        Self {
            function,
            options: Vec::new(),
            arguments: Vec::new(),
            buffers: Vec::new(),
        }
    }

    /// An option of the emulator: `seed`, `cp_async`, `schedule`, `bf16_sum`.
    pub fn set(mut self, option: &'static str, value: i64) -> Self {
        self.options.push((option, value));
        self
    }

    /// A field of the arguments; those not named are 0.
    pub fn arg(mut self, name: &'static str, value: impl TryInto<i64, Error: fmt::Debug>) -> Self {
        let value = value.try_into().expect("an argument is a 64-bit integer");
        self.arguments.push((name, value));
        self
    }

    /// A buffer that the kernels may read; pointers not named are null.
    pub fn input<T: bytemuck::NoUninit>(
        self,
        name: &'static str,
        values: &[T],
        align: usize,
    ) -> Self {
        self.buffer(name, bytemuck::cast_slice(values), align, 0, false)
    }

    /// A buffer that the kernels may read and write; it comes back.
    pub fn output<T: bytemuck::NoUninit>(
        self,
        name: &'static str,
        values: &[T],
        align: usize,
    ) -> Self {
        self.buffer(name, bytemuck::cast_slice(values), align, 0, true)
    }

    /// A buffer that starts `shift` bytes past a multiple of `align`.
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

/// What a call gave back.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The `w4axk_status`.
    pub status: i32,
    pub outputs: BTreeMap<String, Vec<u8>>,
    /// What the function returned through pointers to integers.
    pub values: BTreeMap<String, u64>,
    /// What the emulator counted during the call.
    pub counters: BTreeMap<String, u64>,
}

impl Answer {
    /// An output, as the type that went in.
    pub fn output<T: bytemuck::Pod>(&self, name: &str) -> Vec<T> {
        bytemuck::allocation::pod_collect_to_vec(&self.outputs[name])
    }
}

/// A runner process; started again after a sanitizer's report has ended it.
pub struct Runner {
    program: PathBuf,
    process: Option<Process>,
}

struct Process {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    reports: JoinHandle<String>,
}

impl Runner {
    /// The runner of a variant and an architecture (800 or 900); `None` if it was not built.
    pub fn new(variant: Variant, architecture: u32) -> Option<Self> {
        let program = directory().join(format!("runner-{}-{architecture}", variant.name()));
        program.exists().then_some(Self {
            program,
            process: None,
        })
    }

    /// Runs one case.
    ///
    /// # Errors
    /// The emulator's text, or the sanitizer's report.
    pub fn run(&mut self, case: &Case) -> Result<Answer, String> {
        let program = &self.program;
        let process = self.process.get_or_insert_with(|| Process::start(program));
        // A process that dies while it is being written to says why on its standard error.
        let written = case.write(&mut process.requests);
        let answer = match written {
            Ok(()) => process.read_answer(),
            Err(_) => None,
        };
        match answer {
            Some(answer) => answer,
            None => Err(self.process.take().expect("it was started above").end()),
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
            answers: BufReader::new(child.stdout.take().expect("piped above")),
            // Read all the time: a long report must not fill the pipe.
            reports: std::thread::spawn(move || {
                let mut text = Vec::new();
                let _ = errors.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            }),
            child,
        }
    }

    /// `None` if the process ends before the answer does.
    fn read_answer(&mut self) -> Option<Result<Answer, String>> {
        let mut answer = Answer::default();
        loop {
            let mut line = String::new();
            if self.answers.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let (kind, rest) = line.trim_end().split_once(' ')?;
            let named = || rest.rsplit_once(' ');
            match kind {
                "counter" | "value" => {
                    let (name, value) = named()?;
                    let into = if kind == "value" {
                        &mut answer.values
                    } else {
                        &mut answer.counters
                    };
                    into.insert(name.to_owned(), value.parse().ok()?);
                }
                "io" => {
                    let (name, bytes) = named()?;
                    let mut data = vec![0; bytes.parse().ok()?];
                    self.answers.read_exact(&mut data).ok()?;
                    answer.outputs.insert(name.to_owned(), data);
                }
                "done" => {
                    answer.status = rest.parse().ok()?;
                    return Some(Ok(answer));
                }
                "error" => return Some(Err(rest.to_owned())),
                _ => return None,
            }
        }
    }

    /// Waits for a process that has stopped answering; why it did.
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
            drop(process.requests); // the end of its input is the end of the runner
            let _ = process.child.wait();
        }
    }
}
