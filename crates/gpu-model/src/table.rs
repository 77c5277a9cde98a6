//! Generates the library's kernel table (`choices.csv` in `src/cuda`): the predicted crossovers
//! between kernels.
//!
//! For each device, width, grouping and shape, the number of tokens is increased. A row ends where
//! another kernel is predicted to be faster by more than 3 %.

use std::path::Path;

use w4ax::cuda::{Family, GemmOptions, Problem};
use w4ax::{Grouping, Scheme, Width};

use crate::device::DeviceSpec;
use crate::error::{Error, Result};
use crate::kernels::KernelLibrary;
use crate::predict::{Prediction, predict, with_plan};
use crate::traffic::width;

/// `[N, K]` of the weights that the table has rows for: those of Llama-2-7B, and others around them
/// for look-ups of the nearest shape.
pub const SHAPES: [(usize, usize); 15] = [
    (512, 512),
    (1024, 1024),
    (2048, 2048),
    (3072, 3072),
    (4096, 4096),
    (5120, 5120),
    (6144, 4096),
    (8192, 4096),
    (10240, 4096),
    (12288, 4096),
    (14336, 4096),
    (22016, 4096),
    (28672, 8192),
    (4096, 11008),
    (8192, 28672),
];

/// The shapes that have rows for groups of 32 and 64.
const RARE_GROUPING_SHAPES: [(usize, usize); 5] = [
    (1024, 1024),
    (4096, 4096),
    (12288, 4096),
    (22016, 4096),
    (4096, 11008),
];

/// Numbers of tokens at which kernels are compared.
const TOKENS: [usize; 20] = [
    1, 2, 3, 4, 8, 16, 17, 24, 32, 48, 64, 96, 128, 192, 290, 384, 512, 1024, 2048, 4096,
];

/// A row continues while its kernel takes less than this multiple of the best time.
const TOLERANCE: f64 = 1.03;

/// A range of tokens with one choice of kernel.
#[derive(Debug, serde::Serialize)]
struct Crossover {
    arch: String,
    sms: u32,
    width: String,
    groups: String,
    n: usize,
    k: usize,
    /// The largest compared number of tokens with this choice.
    to_m: usize,
    family: String,
    /// `fused`, or `packed`: `quantize_pack` first.
    mode: &'static str,
    tile: u32,
    /// Share of the limit at `to_m`.
    share: f64,
    /// Time of the kernel that the current table chooses, divided by the time of this row's; the
    /// largest of the range.
    today: f64,
}

/// A kernel that supports a call, and its predicted time.
struct Candidate {
    case: Problem,
    prediction: Prediction,
}

/// Returns all kernels that support a call.
fn candidates(
    kernels: &mut KernelLibrary,
    device: &DeviceSpec<'_>,
    case: &Problem,
    wgmma: bool,
) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for family in [Family::Decode, Family::Prefill, Family::Wgmma] {
        for tile in 1..=family.tiles() {
            for fused in [true, false] {
                if family == Family::Wgmma && !wgmma {
                    continue;
                }
                let options = GemmOptions::default()
                    .with_family(family)
                    .with_fused(fused)
                    .with_tile(tile);
                let Ok(plan) = case.with_options(options).plan() else {
                    continue;
                };
                let case = with_plan(case, &plan);
                if candidates.iter().any(|other| other.case == case) {
                    continue;
                }
                // A kernel that does not fit on the device is not a candidate.
                if let Ok(prediction) = predict(kernels, device, &case) {
                    candidates.push(Candidate { case, prediction });
                }
            }
        }
    }
    candidates
}

/// Returns the crossovers of one device, width, grouping and shape.
fn crossovers(
    kernels: &mut KernelLibrary,
    device: &DeviceSpec<'_>,
    wgmma: bool,
    of: &Problem,
) -> Result<Vec<Crossover>> {
    let mut rows: Vec<(GemmOptions, Crossover)> = Vec::new();
    for m in TOKENS {
        let case = of.with_m(m);
        let candidates = candidates(kernels, device, &case, wgmma);
        let us = |options: &GemmOptions| {
            (candidates.iter())
                .find(|candidate| candidate.case.options() == *options)
                .map(|candidate| candidate.prediction.us)
        };
        let no_candidate = || Error::NoCandidate(format!("{case:?}"));
        let Candidate {
            case: best,
            prediction,
        } = (candidates.iter())
            .min_by(|a, b| a.prediction.us.total_cmp(&b.prediction.us))
            .ok_or_else(no_candidate)?;
        let last = rows
            .last_mut()
            .filter(|(options, _)| us(options).is_some_and(|us| us < TOLERANCE * prediction.us));
        let used = with_plan(&case, &case.plan_for(&device.table_key(wgmma))?);
        let today = us(&used.options()).ok_or_else(no_candidate)? / prediction.us;
        if let Some((_, row)) = last {
            row.to_m = m;
            row.share = prediction.share;
            row.today = row.today.max(today);
        } else {
            let row = crossover(device, wgmma, best, prediction, today)?;
            rows.push((best.options(), row));
        }
    }
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Returns a new row with the kernel that a call names.
fn crossover(
    device: &DeviceSpec<'_>,
    wgmma: bool,
    best: &Problem,
    prediction: &Prediction,
    today: f64,
) -> Result<Crossover> {
    let options = best.options();
    let (Some(family), Some(fused), Some(tile)) =
        (options.family(), options.fused(), options.tile())
    else {
        return Err(Error::NoCandidate(format!("{best:?}")));
    };
    Ok(Crossover {
        arch: format!("{}{}", device.arch, if wgmma { "a" } else { "" }),
        sms: device.sms as u32,
        width: width(best).to_string(),
        groups: match best.scheme() {
            Scheme::TwoLevel => best.scheme().to_string(),
            _ => best.grouping().to_string(),
        },
        n: best.n(),
        k: best.k(),
        to_m: best.m(),
        family: family.to_string(),
        mode: if fused { "fused" } else { "packed" },
        tile,
        share: prediction.share,
        today,
    })
}

/// Writes the table of all known devices that this build has kernels for.
///
/// # Errors
/// If no kernel supports a call, or the file cannot be written.
pub fn write(kernels: &mut KernelLibrary, shapes: &[(usize, usize)], path: &Path) -> Result<()> {
    let failed = |source: csv::Error| Error::Table {
        path: path.to_owned(),
        source,
    };
    let mut writer = csv::Writer::from_path(path).map_err(failed)?;
    for device in kernels.devices() {
        let with_wgmma = if device.arch == "sm_90" {
            &[true, false][..]
        } else {
            &[false]
        };
        for &wgmma in with_wgmma {
            // A2 runs on the kernels of A4.
            for width in [Width::A4, Width::A8, Width::Bf16] {
                // Two-level weights with groups of any size share their kernels.
                let two_level = (Scheme::TwoLevel, Grouping::G128);
                let grouped = Grouping::ALL.map(|grouping| (Scheme::Grouped, grouping));
                for (scheme, grouping) in grouped.into_iter().chain([two_level]) {
                    for (n, k) in shapes_of(grouping, shapes) {
                        let of = Problem::new((1, n, k), width, grouping).with_scheme(scheme);
                        for row in crossovers(kernels, device, wgmma, &of)? {
                            let row = Crossover {
                                share: rounded(row.share),
                                today: rounded(row.today),
                                ..row
                            };
                            writer.serialize(row).map_err(failed)?;
                        }
                    }
                }
            }
        }
    }
    writer.flush().map_err(|error| failed(error.into()))
}

/// Returns the shapes that have rows for a grouping.
fn shapes_of(
    grouping: Grouping,
    shapes: &[(usize, usize)],
) -> impl Iterator<Item = (usize, usize)> {
    let usual = matches!(grouping, Grouping::G128 | Grouping::PerChannel);
    (shapes.iter().copied()).filter(move |s| usual || RARE_GROUPING_SHAPES.contains(s))
}

fn rounded(share: f64) -> f64 {
    (share * 1000.0).round() / 1000.0
}
