//! The results of the checks, as tables and as JSON.

use comfy_table::Table;
use serde::Serialize;
use w4ax::{Scheme, Width};
use w4ax_robot::table::table;

use super::case::{Kind, groups_name, symmetry_name};
use super::machine::Machine;

/// What `w4ax doctor` found.
#[derive(Clone, Debug, Serialize)]
pub struct DoctorReport {
    /// Whether every result was the reference's.
    pub passed: bool,
    /// Checks with a difference.
    pub failed: usize,
    /// Duration of the checks.
    pub seconds: f64,
    /// CPU, driver, devices and kernels.
    pub machine: Machine,
    /// Instruction sets and kernel families, available or not.
    pub paths: Vec<CheckedPath>,
}

/// An instruction set, or a family of kernels on a device.
#[derive(Clone, Debug, Serialize)]
pub struct CheckedPath {
    /// `cpu avx2`, `cuda:0 decode fused`.
    pub name: String,
    /// Why the machine cannot run the path; `None` if it was checked.
    pub not_available: Option<String>,
    /// Every width, scheme, grouping and symmetry.
    pub checks: Vec<Check>,
}

/// A path at one width, with one kind of weights.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Bits of the activations.
    pub width: u32,
    /// `grouped` or `two-level`.
    pub scheme: String,
    /// `g32`, `g64`, `g128` or `channel`.
    pub grouping: String,
    /// Whether the weights have no zero points.
    pub symmetric: bool,
    /// GEMMs that were compared, up to the first with a difference.
    pub gemms: usize,
    /// The first difference to the reference; `None` if there is none.
    pub difference: Option<String>,
}

impl Check {
    /// Returns the width, the groups and the symmetry, as in a check's name.
    pub fn name(&self) -> String {
        let groups = groups_name(&self.scheme, &self.grouping);
        let symmetry = symmetry_name(self.symmetric);
        format!("{}/{groups}/{symmetry}", self.width)
    }
}

impl CheckedPath {
    /// A path that this machine cannot run.
    pub fn not_available(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            not_available: Some(reason.into()),
            checks: Vec::new(),
        }
    }

    /// The checks with a difference.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        let failed = |check: &&Check| check.difference.is_some();
        self.checks.iter().filter(failed)
    }

    /// The schemes of which the path ran no GEMM, although it ran others.
    pub fn schemes_without_kernels(&self) -> impl Iterator<Item = Scheme> {
        let ran = |scheme: Option<&str>| {
            let of_scheme = |check: &&Check| scheme.is_none_or(|scheme| check.scheme == scheme);
            let mut checks = self.checks.iter().filter(of_scheme);
            checks.any(|check| check.gemms > 0)
        };
        let without = move |scheme: &Scheme| ran(None) && !ran(Some(&scheme.to_string()));
        Scheme::ALL.into_iter().filter(without)
    }

    fn cell(&self, width: Width, kind: Kind) -> String {
        let of_cell = |check: &&Check| {
            check.width == width.bits()
                && check.scheme == kind.scheme.to_string()
                && check.grouping == kind.grouping.to_string()
                && check.symmetric == kind.symmetric
        };
        match self.checks.iter().find(of_cell) {
            Some(check) if check.difference.is_some() => "FAIL",
            Some(check) if check.gemms > 0 => "pass",
            _ => "-",
        }
        .into()
    }
}

impl DoctorReport {
    /// A row for each path, width and scheme, a column for each grouping and symmetry.
    pub fn table(&self) -> Table {
        let grouped = Kind::all().filter(|kind| kind.scheme == Scheme::Grouped);
        let columns: Vec<Kind> = grouped.collect();
        let names: Vec<String> = columns.iter().map(Kind::to_string).collect();
        let header: Vec<&str> = ["path", "width", "scheme"]
            .into_iter()
            .chain(names.iter().map(String::as_str))
            .collect();
        let mut rows = Vec::new();
        for path in &self.paths {
            if path.not_available.is_some() {
                rows.push(vec![path.name.clone(), "not available".into()]);
                continue;
            }
            let all = Width::ALL.map(|width| Scheme::ALL.map(|scheme| (width, scheme)));
            for (width, scheme) in all.into_iter().flatten() {
                if path.checks.iter().any(|c| c.width == width.bits()) {
                    let kinds = columns.iter().map(|&kind| Kind { scheme, ..kind });
                    let head = [path.name.clone(), width.to_string(), scheme.to_string()];
                    rows.push(
                        head.into_iter()
                            .chain(kinds.map(|k| path.cell(width, k)))
                            .collect(),
                    );
                }
            }
        }
        table(&header, rows)
    }

    /// Indented, with a newline at the end.
    pub fn to_json(&self) -> String {
        // Plain data whose map keys are strings: serializing cannot fail.
        let json = serde_json::to_string_pretty(self);
        json.expect("a report is plain data") + "\n"
    }
}
