//! The table and its file.

use super::{DeviceKernelTable, DeviceProps};
use crate::cuda::gemm::options::{Family, Mode};
use crate::{Error, Grouping, Result, Width};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// One row of a table: up to this many tokens, from where the row before ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) to_m: usize,
    pub(crate) family: Family,
    pub(crate) mode: Mode,
    pub(crate) tile: u32,
}

/// The rows of one shape `[N, K]`, by rising `to_m`.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) rows: Vec<Row>,
}

/// The shapes of one width and grouping.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) width: Width,
    pub(crate) grouping: Grouping,
    pub(crate) shapes: Vec<Shape>,
}

/// The cases of one architecture and number of multiprocessors.
#[derive(Clone, Debug)]
struct Part {
    /// 10 * major + minor.
    arch: u32,
    wgmma: bool,
    multiprocessors: u32,
    /// Shared with every device that reads them.
    cases: Arc<Vec<Case>>,
}

/// Crossovers between kernel families, fused and packed activations, and tile variants, by architecture, width, grouping, shape
/// and number of tokens.
///
/// [`KernelTable::built_in`] is what the library comes with. `cargo bench --features cuda --bench cuda -- --choices FILE` makes a
/// table; [`KernelTable::read`] and [`Gpu::with_choices`](crate::cuda::Gpu::with_choices) put it to use, and
/// [`GemmOptions`](crate::cuda::GemmOptions) overrides it call by call.
///
/// ```
/// use w4ax::cuda::KernelTable;
/// # fn main() -> w4ax::Result<()> {
/// let table = "arch,sms,width,groups,n,k,to_m,family,mode,tile\n\
///              sm_87,16,a8,g128,4096,4096,16,decode,packed,3\n\
///              sm_87,16,a8,g128,4096,4096,4096,prefill,packed,2\n";
/// let choices = KernelTable::parse("for my robot", table)?;
/// // let gpu = Gpu::new(0)?.with_choices(&choices);
/// # let _ = choices;
/// # Ok(())
/// # }
/// ```
///
/// # The file
/// CSV with a header line; other columns are left alone, lines that begin with `#` too.
///
/// | column | what |
/// | --- | --- |
/// | `arch` | `sm_80`; `sm_90a` where wgmma runs |
/// | `sms` | multiprocessors of the chip that it was made for |
/// | `width` | `a4` (A2 takes the same rows), `a8`, `bf16` |
/// | `groups` | `g128` (also for groups that have no rows of their own), `g64`, `g32`, `channel` |
/// | `n`, `k` | the weight's shape |
/// | `to_m` | the most tokens that the row is for; above the last row, the last |
/// | `family` | `decode`, `prefill`, `wgmma` |
/// | `mode` | `fused`; `packed`: `quantize_pack` runs first (from 3 tokens on) |
/// | `tile` | the family's tile variant |
///
/// What is looked up: the rows of the device's architecture, or of the nearest older one, with the nearest number of
/// multiprocessors; in them the nearest shape, N counting twice; in that the first row with `to_m` of at least M. A row that
/// cannot run as it is asked for (another family was named, x is not aligned as wgmma needs it) makes way for the nearest that can.
#[derive(Clone, Debug)]
pub struct KernelTable {
    parts: Vec<Part>,
}

#[derive(serde::Deserialize)]
struct Line {
    arch: String,
    sms: u32,
    width: String,
    groups: String,
    n: usize,
    k: usize,
    to_m: usize,
    family: String,
    mode: String,
    tile: u32,
}

/// The one of `all` that is written so.
fn named<T: Copy + std::fmt::Display>(
    what: &str,
    all: &[T],
    text: &str,
) -> std::result::Result<T, String> {
    (all.iter().copied())
        .find(|one| one.to_string() == text)
        .ok_or_else(|| format!("`{text}` is no {what}"))
}

impl Line {
    /// Its place in a table, and its row.
    fn read(&self) -> std::result::Result<(u32, bool, Width, Grouping, Row), String> {
        let number = self.arch.strip_prefix("sm_").unwrap_or_default();
        let wgmma = number.ends_with('a');
        let arch = (number.trim_end_matches('a').parse())
            .map_err(|_| format!("`{}` is no architecture such as sm_80", self.arch))?;
        let row = Row {
            to_m: self.to_m,
            family: named("family", &Family::ALL, &self.family)?,
            mode: named("mode", &[Mode::Fused, Mode::Packed], &self.mode)?,
            tile: self.tile,
        };
        let known = match row.family {
            Family::Decode => row.to_m <= Family::DECODE_MAX_M,
            Family::Prefill => true,
            Family::Wgmma => wgmma,
            Family::Plain => false,
        };
        if !known {
            return Err(format!(
                "{} does not run {} tokens on {}",
                row.family, row.to_m, self.arch
            ));
        }
        for (what, value) in [
            ("sms", self.sms as usize),
            ("n", self.n),
            ("k", self.k),
            ("to_m", row.to_m),
            ("tile", row.tile as usize),
        ] {
            if value == 0 {
                return Err(format!("{what} is 0"));
            }
        }
        Ok((
            arch,
            wgmma,
            named("width", &Width::ALL, &self.width)?,
            named("grouping", &Grouping::ALL, &self.groups)?,
            row,
        ))
    }
}

impl KernelTable {
    /// The table that the library comes with, `src/cuda/gemm/table/choices.csv`.
    pub fn built_in() -> &'static Self {
        static TABLE: OnceLock<KernelTable> = OnceLock::new();
        TABLE.get_or_init(|| {
            Self::parse("choices.csv", include_str!("choices.csv")).expect("tested: it can be read")
        })
    }

    /// A table of one's own.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] with the line that is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, source))?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// A table from its text; `name` stands for it in errors.
    ///
    /// # Errors
    /// [`Error::Format`] with the line that is wrong.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let wrong = |line: u64, reason: String| Error::format(format!("{name}:{line}"), reason);
        let mut reader = csv::ReaderBuilder::new()
            .comment(Some(b'#'))
            .from_reader(text.as_bytes());
        let mut parts: Vec<Part> = Vec::new();
        let headers = reader
            .headers()
            .map_err(|e| wrong(1, e.to_string()))?
            .clone();
        let mut record = csv::StringRecord::new();
        while reader
            .read_record(&mut record)
            .map_err(|e| wrong(0, e.to_string()))?
        {
            let at = record.position().map_or(0, csv::Position::line);
            let line: Line = record
                .deserialize(Some(&headers))
                .map_err(|e| wrong(at, e.to_string()))?;
            let (arch, wgmma, width, grouping, row) =
                line.read().map_err(|reason| wrong(at, reason))?;
            let part = find_or_push(
                &mut parts,
                |p| (p.arch, p.wgmma, p.multiprocessors) == (arch, wgmma, line.sms),
                || Part {
                    arch,
                    wgmma,
                    multiprocessors: line.sms,
                    cases: Arc::default(),
                },
            );
            let case = find_or_push(
                Arc::make_mut(&mut part.cases),
                |c| (c.width, c.grouping) == (width, grouping),
                || Case {
                    width,
                    grouping,
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
            if shape.rows.last().is_some_and(|last| last.to_m >= row.to_m) {
                return Err(wrong(
                    at,
                    format!(
                        "up to {} tokens, after a row of the same shape for as many or more",
                        row.to_m
                    ),
                ));
            }
            shape.rows.push(row);
        }
        if parts.is_empty() {
            return Err(wrong(1, "no row".into()));
        }
        Ok(Self { parts })
    }

    /// What of it counts for a device.
    pub(crate) fn of(&self, chip: &DeviceProps) -> DeviceKernelTable {
        let number = chip.capability.0 * 10 + chip.capability.1;
        let part = |wgmma: bool| {
            let nearest = |p: &&Part| {
                let [ours, its] =
                    [chip.multiprocessors, p.multiprocessors].map(|sms| f64::from(sms.max(1)).ln());
                // Of the newest that is not newer than the device, or else of the oldest.
                let older = if p.arch <= number {
                    number - p.arch
                } else {
                    1000 + p.arch
                };
                (older, (1e6 * (ours - its).abs()) as u64)
            };
            (self.parts.iter())
                .filter(|p| p.wgmma == wgmma)
                .min_by_key(nearest)
                .map_or_else(Arc::default, |p| Arc::clone(&p.cases))
        };
        DeviceKernelTable {
            with_wgmma: if chip.wgmma {
                part(true)
            } else {
                Arc::default()
            },
            without: part(false),
        }
    }
}

/// The element that `is` says, or a new one.
fn find_or_push<T>(all: &mut Vec<T>, is: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> &mut T {
    let at = all.iter().position(is).unwrap_or_else(|| {
        all.push(new());
        all.len() - 1
    });
    &mut all[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_table_is_refused_by_line() {
        let header = "arch,sms,width,groups,n,k,to_m,family,mode,tile\n";
        let good = "sm_80,108,a8,g128,4096,4096,2,decode,fused,1\n";
        for (line, says) in [
            (
                "sm_x,108,a8,g128,4096,4096,4,decode,fused,1",
                "`sm_x` is no architecture",
            ),
            ("sm_80,0,a8,g128,4096,4096,4,decode,fused,1", "sms is 0"),
            (
                "sm_80,108,a3,g128,4096,4096,4,decode,fused,1",
                "`a3` is no width",
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
                "`sideways` is no mode",
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
    fn the_built_in_table_is_whole() {
        let table = KernelTable::built_in();
        let h100 = table.of(&DeviceProps {
            capability: (9, 0),
            wgmma: true,
            multiprocessors: 132,
        });
        for (cases, families) in [
            (&h100.with_wgmma, true),
            (&h100.without, false),
            (&table.of(&DeviceProps::A100).without, false),
        ] {
            assert_eq!(cases.len(), 12, "three widths, four groupings");
            for shape in cases.iter().flat_map(|case| &case.shapes) {
                assert_eq!(shape.rows.last().expect("rows").to_m, 4096);
                let wgmma = shape.rows.iter().any(|row| row.family == Family::Wgmma);
                // The smallest shape fills no device with wgmma's blocks.
                assert!(wgmma == families || shape.n == 512, "{shape:?}");
            }
        }
    }
}
