//! The library's table of crossovers (src/cuda/gemm/table/choices.csv), as the model predicts it: nothing of it is measured.

use crate::device::DeviceProps;
use crate::kernels::Machine;
use crate::predict::{Prediction, device, named, predict};
use std::path::Path;
use w4ax::cuda::{Family, GemmOptions, Problem};
use w4ax::{Grouping, Width};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The weights that the table has rows for: of Llama-2-7B, and around them for the nearest of others.
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

/// Of them, those for groups of 32 and 64.
const FEW: [(usize, usize); 5] = [
    (1024, 1024),
    (4096, 4096),
    (12288, 4096),
    (22016, 4096),
    (4096, 11008),
];

/// Where the crossovers are looked for.
const TOKENS: [usize; 20] = [
    1, 2, 3, 4, 8, 16, 17, 24, 32, 48, 64, 96, 128, 192, 290, 384, 512, 1024, 2048, 4096,
];

/// Less of the best time is no reason for another kernel than that of fewer tokens.
const NEARLY: f64 = 1.03;

/// One range of tokens with one choice.
#[derive(Debug, serde::Serialize)]
struct Row {
    arch: String,
    sms: u32,
    width: String,
    groups: String,
    n: usize,
    k: usize,
    /// The last number of tokens that was looked at and has this choice.
    to_m: usize,
    family: String,
    /// `fused`, or `packed`: `quantize_pack` first.
    mode: &'static str,
    tile: u32,
    /// Of the limit, at `to_m`.
    share: f64,
    /// The most that the kernel of the table in use takes of this one's time in the range.
    today: f64,
}

/// Everything that could run, by name, with its time.
fn candidates(
    machine: &mut Machine,
    chip: &DeviceProps<'_>,
    case: &Problem,
    wgmma: bool,
) -> Vec<(Problem, Prediction)> {
    let mut all: Vec<(Problem, Prediction)> = Vec::new();
    for family in [Family::Decode, Family::Prefill, Family::Wgmma] {
        for tile in 1..=family.tiles() {
            for fused in [true, false] {
                if family == Family::Wgmma && !wgmma {
                    continue;
                }
                let options = GemmOptions {
                    family: Some(family),
                    fused: Some(fused),
                    tile: Some(tile),
                    pdl: false,
                };
                let Ok(plan) = (Problem { options, ..*case }).plan() else {
                    continue;
                };
                let case = named(case, &plan);
                if all.iter().any(|(other, _)| *other == case) {
                    continue;
                }
                // What does not fit on the chip is no choice.
                if let Ok(predicted) = predict(machine, chip, &case) {
                    all.push((case, predicted));
                }
            }
        }
    }
    all
}

/// The rows of one chip, width, grouping and shape.
fn rows_of(
    machine: &mut Machine,
    chip: &DeviceProps<'_>,
    wgmma: bool,
    of: &Problem,
) -> Result<Vec<Row>> {
    let mut rows: Vec<(GemmOptions, Row)> = Vec::new();
    for m in TOKENS {
        let case = Problem { m, ..*of };
        let all = candidates(machine, chip, &case, wgmma);
        let us = |options: &GemmOptions| {
            (all.iter())
                .find(|(c, _)| c.options == *options)
                .map(|(_, p)| p.us)
        };
        let (best, predicted) = (all.iter())
            .min_by(|a, b| a.1.us.total_cmp(&b.1.us))
            .ok_or("no kernel takes it")?;
        let last = rows
            .last_mut()
            .filter(|(options, _)| us(options).is_some_and(|us| us < NEARLY * predicted.us));
        let used = named(&case, &case.plan_for(&device(chip, wgmma))?);
        let today =
            us(&used.options).ok_or("the table has a kernel that the model lacks")? / predicted.us;
        match last {
            Some((_, row)) => {
                row.to_m = m;
                row.share = predicted.share;
                row.today = row.today.max(today);
            }
            None => rows.push((
                best.options,
                Row {
                    arch: format!("{}{}", chip.arch, if wgmma { "a" } else { "" }),
                    sms: chip.sms as u32,
                    width: of.width.to_string(),
                    groups: of.grouping.to_string(),
                    n: of.n,
                    k: of.k,
                    to_m: m,
                    family: best
                        .options
                        .family
                        .ok_or("a candidate is named")?
                        .to_string(),
                    mode: if best.options.fused == Some(true) {
                        "fused"
                    } else {
                        "packed"
                    },
                    tile: best.options.tile.ok_or("a candidate is named")?,
                    share: predicted.share,
                    today,
                },
            )),
        }
    }
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Writes the table.
pub fn write(machine: &mut Machine, shapes: &[(usize, usize)], path: &Path) -> Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    for chip in machine.chips() {
        let with_wgmma = if chip.arch == "sm_90" {
            &[true, false][..]
        } else {
            &[false]
        };
        for &wgmma in with_wgmma {
            // A2 runs as A4.
            for width in [Width::A4, Width::A8, Width::Bf16] {
                for grouping in Grouping::ALL {
                    let usual = matches!(grouping, Grouping::G128 | Grouping::PerChannel);
                    for &(n, k) in shapes.iter().filter(|s| usual || FEW.contains(s)) {
                        let of = Problem {
                            m: 1,
                            n,
                            k,
                            width,
                            latched: false,
                            grouping,
                            packed: false,
                            options: GemmOptions::default(),
                        };
                        for mut row in rows_of(machine, chip, wgmma, &of)? {
                            for share in [&mut row.share, &mut row.today] {
                                *share = (*share * 1000.0).round() / 1000.0;
                            }
                            writer.serialize(row)?;
                        }
                    }
                }
            }
        }
    }
    Ok(writer.flush()?)
}
