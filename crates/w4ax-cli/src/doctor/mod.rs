//! `w4ax doctor`: every path of this machine against the scalar reference.
//!
//! Each instruction set and each family of kernels computes the same GEMMs at every width, scheme,
//! grouping and symmetry. Results are compared with [`w4ax::reference::gemm`] bit for bit; those of
//! BF16 activations on a GPU, which adds in another order, are held to the bound of
//! [`w4ax::numerics`]. Row operations that quantize at once are checked by the GEMM of their
//! result.

pub mod case;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod cuda_row_op;
pub mod machine;
pub mod report;

use std::path::PathBuf;
use std::time::Instant;

use half::bf16;
use w4ax::{Result, Width};

use case::{Case, Kind};
use machine::Machine;
use report::{Check, CheckedPath, DoctorReport};

/// Options of `w4ax doctor`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// The results as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Flip a bit of the results of one check, such as `cpu scalar/4/g64/sym`: shows that a
    /// difference is found
    #[arg(long, value_name = "CHECK", hide = true)]
    pub plant_fault: Option<String>,
}

/// A path at one width, with one kind of weights.
#[derive(Clone, Debug)]
pub struct CheckId {
    /// As in [`CheckedPath::name`].
    pub path: String,
    /// Of the activations.
    pub width: Width,
    /// Of the weights.
    pub kind: Kind,
}

impl std::fmt::Display for CheckId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, width, kind) = (&self.path, self.width.bits(), self.kind);
        let (groups, symmetry) = (kind.groups_name(), kind.symmetry_name());
        write!(f, "{path}/{width}/{groups}/{symmetry}")
    }
}

/// Changes the results of checks before they are compared, `[m, n]`: tests plant faults.
pub type Fault<'a> = &'a dyn Fn(&CheckId, &mut [bf16]);

/// Runs the checks of one path after the other.
pub struct Checker<'a> {
    cases: Vec<(Kind, Vec<Case>)>,
    fault: Fault<'a>,
}

impl<'a> Checker<'a> {
    /// Computes the reference.
    ///
    /// # Errors
    /// As [`Case::of`].
    pub fn new(fault: Fault<'a>) -> Result<Self> {
        let cases = Kind::all().map(|kind| Ok((kind, Case::of(kind)?)));
        Ok(Self {
            cases: cases.collect::<Result<_>>()?,
            fault,
        })
    }

    /// Checks a path on the cases that it takes. `compare` computes a case, applies the fault to
    /// the result, and returns the first difference. A call that fails is a difference.
    fn path(
        &mut self,
        name: String,
        widths: impl IntoIterator<Item = Width>,
        takes: impl Fn(Width, &Case) -> bool,
        compare: impl Fn(Width, &Case, &dyn Fn(&mut [bf16])) -> Result<Option<String>>,
    ) -> CheckedPath {
        let mut checks = Vec::new();
        for width in widths {
            for (kind, cases) in &self.cases {
                let id = CheckId {
                    path: name.clone(),
                    width,
                    kind: *kind,
                };
                let fault = |y: &mut [bf16]| (self.fault)(&id, y);
                let (mut gemms, mut difference) = (0, None);
                for case in cases.iter().filter(|case| takes(width, case)) {
                    gemms += 1;
                    difference =
                        compare(width, case, &fault).unwrap_or_else(|e| Some(e.to_string()));
                    if difference.is_some() {
                        break;
                    }
                }
                checks.push(Check {
                    width: width.bits(),
                    scheme: kind.scheme.to_string(),
                    grouping: kind.grouping.to_string(),
                    symmetric: kind.symmetric,
                    gemms,
                    difference,
                });
            }
        }
        CheckedPath {
            name,
            not_available: None,
            checks,
        }
    }
}

/// Checks every path of this machine.
///
/// # Errors
/// As [`Case::of`].
pub fn examine(fault: Fault<'_>) -> Result<DoctorReport> {
    let start = Instant::now();
    let machine = Machine::detect();
    let mut checker = Checker::new(fault)?;
    let mut paths = cpu::check(&mut checker);
    #[cfg(feature = "cuda")]
    paths.extend(cuda::check(&mut checker));
    #[cfg(not(feature = "cuda"))]
    paths.extend(
        (machine.cuda.not_available.clone())
            .map(|reason| CheckedPath::not_available("cuda", reason)),
    );
    let failed = paths.iter().map(|path| path.failures().count()).sum();
    Ok(DoctorReport {
        passed: failed == 0,
        failed,
        seconds: start.elapsed().as_secs_f64(),
        machine,
        paths,
    })
}

/// Runs the command. Returns whether all checks passed.
///
/// # Errors
/// As [`examine`]; a JSON file that cannot be written.
pub fn run(options: &Options) -> Result<bool> {
    let fault = |id: &CheckId, y: &mut [bf16]| {
        let planted = options.plant_fault.as_deref() == Some(&id.to_string());
        if let (true, Some(last)) = (planted, y.last_mut()) {
            *last = bf16::from_bits(last.to_bits() ^ 1);
        }
    };
    let report = examine(&fault)?;
    for (name, value) in report.machine.lines() {
        println!("{name:17} {value}");
    }
    println!("\n{}\n", report.table());
    for path in &report.paths {
        if let Some(reason) = &path.not_available {
            println!("{}: not available: {reason}", path.name);
        }
        for check in path.failures() {
            let difference = check.difference.as_deref().unwrap_or_default();
            println!("{}/{}: {difference}", path.name, check.name());
        }
        for scheme in path.schemes_without_kernels() {
            println!("{}: {scheme} weights not checked: no kernels", path.name);
        }
    }
    let checks: usize = report.paths.iter().map(|path| path.checks.len()).sum();
    let (failed, seconds) = (report.failed, report.seconds);
    println!("{checks} checks, {failed} failed, in {seconds:.1} s");
    if let Some(path) = &options.json {
        w4ax::file::write_atomically(path, report.to_json().as_bytes())?;
        println!("results: {}", path.display());
    }
    Ok(report.passed)
}
