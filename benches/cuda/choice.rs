//! Which kernel the model would pick, for each chip, width, shape and number of tokens: PREDICTED, nothing of it is measured.

use crate::machine::Machine;
use crate::model::Chip;
use crate::static_model::{Prediction, planned_on, predict};
use std::path::Path;
use w4ax::cuda::{Family, GemmOptions, Problem};
use w4ax::{Grouping, Precision};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Where the crossovers are looked for.
const TOKENS: [usize; 20] = [
    1, 2, 3, 4, 8, 16, 17, 24, 32, 48, 64, 96, 128, 192, 290, 384, 512, 1024, 2048, 4096,
];

/// One range of tokens with one choice.
#[derive(Debug, serde::Serialize)]
struct Row {
    chip: &'static str,
    arch: String,
    sms: f64,
    width: String,
    groups: String,
    n: usize,
    k: usize,
    /// The first and the last number of tokens that were looked at and have this choice.
    from_m: usize,
    to_m: usize,
    family: String,
    tile: u32,
    /// `fused`, or `packed`: `quantize_pack` first.
    mode: &'static str,
    /// Of the limit, at `from_m` and `to_m`.
    share_from: f64,
    share_to: f64,
    /// The most that the kernel picked today takes of this one's time in the range.
    today: f64,
}

/// The best of what could run, and what runs today.
fn best(
    machine: &mut Machine,
    chip: &Chip<'_>,
    case: Problem,
) -> Result<(Problem, Prediction, Prediction)> {
    let case = planned_on(chip, &case)?;
    let today = predict(machine, chip, &case)?;
    let mut best = (case, today.clone());
    // Less than 2 % is no reason to leave what runs today.
    let mut to_beat = 0.98 * today.us;
    for family in [Family::Decode, Family::Prefill, Family::Wgmma] {
        for tile in 1..=family.tiles() {
            for fused in [true, false] {
                let options = GemmOptions {
                    family: Some(family),
                    fused,
                    tile: Some(tile),
                    pdl: false,
                };
                let case = Problem { options, ..case };
                if case.plan().is_err() {
                    continue;
                }
                // What does not fit on the chip is no choice.
                let Ok(predicted) = predict(machine, chip, &case) else {
                    continue;
                };
                if predicted.us < to_beat {
                    to_beat = predicted.us;
                    best = (case, predicted);
                }
            }
        }
    }
    Ok((best.0, best.1, today))
}

fn rows(machine: &mut Machine, shapes: &[(usize, usize)]) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for chip in machine.chips() {
        // A2 runs as A4.
        for precision in [Precision::A4, Precision::A8, Precision::Bf16] {
            for grouping in [Grouping::G128, Grouping::PerChannel] {
                for &(n, k) in shapes {
                    let first = rows.len();
                    for m in TOKENS {
                        let case = Problem {
                            m,
                            n,
                            k,
                            precision,
                            latched: false,
                            grouping,
                            packed: false,
                            options: GemmOptions::default(),
                        };
                        let (case, predicted, today) = best(machine, chip, case)?;
                        let plan = case.plan()?;
                        let mode = if plan.launches > 1 { "packed" } else { "fused" };
                        let family = plan.family.to_string();
                        let today = today.us / predicted.us;
                        let of_shape = rows[first..].last_mut();
                        match of_shape
                            .filter(|r| r.family == family && r.tile == plan.tile && r.mode == mode)
                        {
                            Some(row) => {
                                row.to_m = m;
                                row.share_to = predicted.share;
                                row.today = row.today.max(today);
                            }
                            None => rows.push(Row {
                                chip: chip.name,
                                arch: chip.arch.to_string(),
                                sms: chip.sms,
                                width: precision.to_string(),
                                groups: grouping.to_string(),
                                n,
                                k,
                                from_m: m,
                                to_m: m,
                                family,
                                tile: plan.tile,
                                mode,
                                share_from: predicted.share,
                                share_to: predicted.share,
                                today,
                            }),
                        }
                    }
                }
            }
        }
    }
    Ok(rows)
}

/// Writes the table as CSV.
pub fn write(machine: &mut Machine, shapes: &[(usize, usize)], path: &Path) -> Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    for mut row in rows(machine, shapes)? {
        for share in [&mut row.share_from, &mut row.share_to, &mut row.today] {
            *share = (*share * 1000.0).round() / 1000.0;
        }
        writer.serialize(row)?;
    }
    Ok(writer.flush()?)
}
