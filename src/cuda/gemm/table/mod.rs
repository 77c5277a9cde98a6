//! The choice of a kernel where the caller leaves it open: a table of crossovers (`choices.csv`).

mod file;
mod lookup;
mod rows;

pub(crate) use lookup::DeviceKernelTable;
pub use rows::DeviceProps;

use crate::{Error, Result};
use rows::{Case, Shape};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// The cases of one architecture and number of multiprocessors.
#[derive(Clone, Debug)]
struct Part {
    /// 10 * major + minor.
    arch: u32,
    wgmma: bool,
    multiprocessors: u32,
    /// Shared with every device that uses them.
    cases: Arc<Vec<Case>>,
}

/// Crossovers between kernel families, between fused and separate quantization, and between tile
/// variants, by architecture, width, grouping, shape and number of tokens.
///
/// [`KernelTable::built_in`] is the default. `cargo run -p gpu-model --features cuda -- table FILE`
/// writes a predicted one; [`KernelTable::read`] and
/// [`Gpu::with_table`](crate::cuda::Gpu::with_table) apply a table.
/// [`GemmOptions`](crate::cuda::GemmOptions) overrides it for a call.
///
/// ```
/// use w4ax::cuda::KernelTable;
/// # fn main() -> w4ax::Result<()> {
/// let table = "arch,sms,width,groups,n,k,to_m,family,mode,tile\n\
///              sm_87,16,a8,g128,4096,4096,16,decode,packed,3\n\
///              sm_87,16,a8,g128,4096,4096,4096,prefill,packed,2\n";
/// let table = KernelTable::parse("my robot", table)?;
/// // let gpu = Gpu::new(0)?.with_table(&table);
/// # let _ = table;
/// # Ok(())
/// # }
/// ```
///
/// # The file
/// CSV without quotes, with a header line. Other columns and lines that begin with `#` are ignored.
///
/// | column | contents |
/// | --- | --- |
/// | `arch` | `sm_80`; `sm_90a` where wgmma runs |
/// | `sms` | multiprocessors of the device for which the row was made |
/// | `width` | `a4` (also used for A2), `a8`, `bf16` |
/// | `groups` | `g128` (also used for groups without rows), `g64`, `g32`, `channel` (also used for two-level weights without rows), `two-level` |
/// | `n`, `k` | the shape of the weight |
/// | `to_m` | the largest number of tokens of the row; the last row also covers more |
/// | `family` | `decode`, `prefill`, `wgmma` |
/// | `mode` | `fused`; `packed`: `quantize_pack` runs first (from 3 tokens on) |
/// | `tile` | the tile variant of the family |
///
/// # The lookup
/// The rows are those of the architecture of the device, or of the nearest older one, with the
/// nearest number of multiprocessors. Among them the nearest shape is selected, with N weighted
/// twice, and in it the first row with a `to_m` of at least M. If that row cannot run as requested
/// (another family was requested, or x does not have the alignment that wgmma needs), the nearest
/// row that can is selected.
#[derive(Clone, Debug)]
pub struct KernelTable {
    parts: Vec<Part>,
}

impl KernelTable {
    /// The table of the library, `src/cuda/gemm/table/choices.csv`.
    pub fn built_in() -> &'static Self {
        static TABLE: OnceLock<KernelTable> = OnceLock::new();
        TABLE.get_or_init(|| {
            Self::parse("choices.csv", include_str!("choices.csv")).expect("a test parses it")
        })
    }

    /// Reads a table from a file.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] with the line that is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, source))?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Parses a table. `name` is its name in errors.
    ///
    /// # Errors
    /// [`Error::Format`] with the line that is wrong.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut parts: Vec<Part> = Vec::new();
        file::read(name, text, |line| {
            let key = (line.arch, line.wgmma, line.multiprocessors);
            let part = find_or_push(
                &mut parts,
                |p| (p.arch, p.wgmma, p.multiprocessors) == key,
                || Part {
                    arch: line.arch,
                    wgmma: line.wgmma,
                    multiprocessors: line.multiprocessors,
                    cases: Arc::default(),
                },
            );
            let case = find_or_push(
                Arc::make_mut(&mut part.cases),
                |c| (c.width, c.groups) == (line.width, line.groups),
                || Case {
                    width: line.width,
                    groups: line.groups,
                    shapes: Vec::new(),
                },
            );
            let shape = find_or_push(
                &mut case.shapes,
                |s| (s.n, s.k) == (line.n, line.k),
                || Shape {
                    n: line.n,
                    k: line.k,
                    rows: Vec::new(),
                },
            );
            let to_m = line.row.to_m;
            if let Some(last) = shape.rows.last().filter(|last| last.to_m >= to_m) {
                return Err(format!(
                    "to_m is {to_m} after a row of the same shape with {}: expected a larger one",
                    last.to_m
                ));
            }
            shape.rows.push(line.row);
            Ok(())
        })?;
        if parts.is_empty() {
            return Err(Error::format(format!("{name}:1"), "no rows"));
        }
        Ok(Self { parts })
    }

    /// The rows for a device.
    pub(crate) fn for_device(&self, props: &DeviceProps) -> DeviceKernelTable {
        let number = props.capability.0 * 10 + props.capability.1;
        let part = |wgmma: bool| {
            let distance = |p: &&Part| {
                let [device, row] = [props.multiprocessors, p.multiprocessors]
                    .map(|sms| f64::from(sms.max(1)).ln());
                // The newest architecture that is not newer than the device; if there is none, the
                // oldest.
                let older = if p.arch <= number {
                    number - p.arch
                } else {
                    1000 + p.arch
                };
                (older, (1e6 * (device - row).abs()) as u64)
            };
            (self.parts.iter())
                .filter(|p| p.wgmma == wgmma)
                .min_by_key(distance)
                .map_or_else(Arc::default, |p| Arc::clone(&p.cases))
        };
        DeviceKernelTable {
            with_wgmma: if props.wgmma {
                part(true)
            } else {
                Arc::default()
            },
            without: part(false),
        }
    }
}

/// The first element that `matches`, or a new one.
fn find_or_push<T>(
    all: &mut Vec<T>,
    matches: impl Fn(&T) -> bool,
    new: impl FnOnce() -> T,
) -> &mut T {
    let at = all.iter().position(matches).unwrap_or_else(|| {
        all.push(new());
        all.len() - 1
    });
    &mut all[at]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Family;

    #[test]
    fn reports_line_of_invalid_table() {
        let header = "arch,sms,width,groups,n,k,to_m,family,mode,tile\n";
        let good = "sm_80,108,a8,g128,4096,4096,2,decode,fused,1\n";
        for (line, says) in [
            (
                "sm_x,108,a8,g128,4096,4096,4,decode,fused,1",
                "unknown architecture `sm_x`",
            ),
            ("sm_80,0,a8,g128,4096,4096,4,decode,fused,1", "sms is 0"),
            (
                "sm_80,108,a3,g128,4096,4096,4,decode,fused,1",
                "unknown width `a3`",
            ),
            (
                "sm_80,108,a8,g128,4096,4096,2,decode,fused,1",
                "after a row of the same shape",
            ),
            (
                "sm_80,108,a8,g128,4096,4096,17,decode,fused,1",
                "decode does not run 17 tokens",
            ),
            (
                "sm_80,108,a8,g128,4096,4096,17,wgmma,packed,1",
                "wgmma does not run 17 tokens on sm_80",
            ),
            (
                "sm_80,108,a8,g128,4096,4096,17,prefill,sideways,1",
                "unknown mode `sideways`",
            ),
            (
                "sm_80,108,a8,g128,4096,x,17,prefill,fused,1",
                "invalid digit",
            ),
        ] {
            let error = KernelTable::parse("t.csv", &format!("{header}{good}{line}\n"))
                .expect_err(line)
                .to_string();
            assert!(
                error.starts_with("t.csv:3: ") && error.contains(says),
                "{error}"
            );
        }
        assert!(KernelTable::parse("t.csv", header).is_err());
    }

    #[test]
    fn built_in_table_is_complete() {
        let table = KernelTable::built_in();
        let h100 = table.for_device(&DeviceProps {
            capability: (9, 0),
            wgmma: true,
            multiprocessors: 132,
        });
        for (cases, families) in [
            (&h100.with_wgmma, true),
            (&h100.without, false),
            (&table.for_device(&DeviceProps::A100).without, false),
        ] {
            assert_eq!(
                cases.len(),
                15,
                "three widths, four groupings and two-level weights"
            );
            for shape in cases.iter().flat_map(|case| &case.shapes) {
                assert_eq!(shape.rows.last().expect("rows").to_m, 4096);
                let wgmma = shape.rows.iter().any(|row| row.family == Family::Wgmma);
                // The wgmma blocks of the smallest shape do not fill a device.
                assert!(wgmma == families || shape.n == 512, "{shape:?}");
            }
        }
    }
}
