//! The words that pass between host and device about a step that leaves layers out, as `kernels/api/w4ax_skip.h` has them.

use crate::cuda::sys;
use crate::skip::{Fate, Gap, Layers};
use crate::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a step's layers on the device, beside the fate of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkipRun {
    /// Layers that ran, static ones too.
    pub layers_run: usize,
    /// Of them, those that ran ([`Fate::Forced`]) because the device found no allow-point of this step for their gap.
    pub stale: usize,
}

/// `sequence << 32 | layer + 1`: never 0, so that memory that nobody wrote is no word.
fn word(sequence: u32, layer: usize) -> u64 {
    u64::from(sequence) << 32 | (layer as u64 + 1)
}

/// Stores a step's allow-points; nothing if one is refused.
pub(crate) fn store(
    words: &[AtomicU64],
    gaps: &[Gap],
    sequence: u32,
    points: &[usize],
) -> Result<()> {
    if points.len() != gaps.len() {
        return Err(Error::shape("allow-points", [gaps.len()], [points.len()]));
    }
    let outside = |(point, gap): &(&usize, &Gap)| !(gap.start..=gap.end).contains(*point);
    if let Some((point, gap)) = points.iter().zip(gaps).find(outside) {
        return Err(Error::Range {
            what: "allow-point",
            value: format!("{point} of the gap {}..{}", gap.start, gap.end),
            range: "a layer of its gap, or the gap's end",
        });
    }
    for (to, &point) in words.iter().zip(points) {
        to.store(word(sequence, point), Ordering::Release);
    }
    Ok(())
}

/// Reads what a step has told, by layer.
pub(crate) fn read(
    reports: &[AtomicU64],
    layers: &Layers,
    sequence: u32,
    fates: &mut [Fate],
) -> Result<SkipRun> {
    if fates.len() != layers.len() {
        return Err(Error::shape("fates", [layers.len()], [fates.len()]));
    }
    let mut run = SkipRun::default();
    // The layer that has skipped, and its gap.
    let mut skipped = None;
    for (layer, fate) in fates.iter_mut().enumerate() {
        *fate = match layers.gap_of(layer) {
            None => Fate::Static,
            Some(gap) => {
                let report = reports[layer].load(Ordering::Acquire);
                let (reason, of) = (report as u32 & 0xFF, (report >> 8) as u32 & 0xFF_FFFF);
                let p = f32::from_bits((report >> 32) as u32);
                if of != sequence & 0xFF_FFFF && reason != sys::W4AXK_SKIP_NONE {
                    return Err(not_told(
                        layer,
                        sequence,
                        format!("step {of} (its low 24 bits)"),
                    ));
                }
                match reason {
                    sys::W4AXK_SKIP_FORCED => Fate::Forced,
                    sys::W4AXK_SKIP_STALE => {
                        run.stale += 1;
                        Fate::Forced
                    }
                    sys::W4AXK_SKIP_KEPT | sys::W4AXK_SKIP_NAN => Fate::Declined(p),
                    sys::W4AXK_SKIP_SKIPPED => {
                        skipped = Some((gap, layer));
                        Fate::Skipped(p)
                    }
                    sys::W4AXK_SKIP_PASSED => match skipped {
                        Some((of, from)) if of == gap => Fate::Covered(from),
                        _ => {
                            return Err(not_told(
                                layer,
                                sequence,
                                "a skip that no layer made".into(),
                            ));
                        }
                    },
                    _ => return Err(not_told(layer, sequence, "nothing".into())),
                }
            }
        };
        run.layers_run += usize::from(fate.ran());
    }
    Ok(run)
}

fn not_told(layer: usize, sequence: u32, told: String) -> Error {
    Error::InvalidState {
        call: "fates of a step",
        reason: format!("layer {layer} has told of {told}, not of step {sequence}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(n: usize) -> Vec<AtomicU64> {
        (0..n).map(|_| AtomicU64::new(0)).collect()
    }

    fn report(layer: &AtomicU64, p: f32, sequence: u32, reason: u32) {
        let low = u64::from(sequence & 0xFF_FFFF) << 8 | u64::from(reason);
        layer.store(u64::from(p.to_bits()) << 32 | low, Ordering::Relaxed);
    }

    #[test]
    fn allow_points_are_one_word_each_or_none() {
        let layers = Layers::new(8, &[0, 4]).unwrap();
        let to = words(2);
        store(&to, layers.gaps(), 7, &[1, 8]).unwrap();
        let stored: Vec<u64> = to.iter().map(|w| w.load(Ordering::Relaxed)).collect();
        assert_eq!(stored, [7 << 32 | 2, 7 << 32 | 9]);
        for wrong in [&[0, 5][..], &[1, 9], &[5, 5], &[1], &[1, 5, 5]] {
            assert!(store(&to, layers.gaps(), 8, wrong).is_err(), "{wrong:?}");
            let now: Vec<u64> = to.iter().map(|w| w.load(Ordering::Relaxed)).collect();
            assert_eq!(now, stored, "{wrong:?}");
        }
        // Layer 0 of step 0 is no unwritten word.
        assert_ne!(word(0, 0), 0);
    }

    #[test]
    fn fates_are_what_each_layer_told_of_this_step() {
        let layers = Layers::new(7, &[3]).unwrap();
        let (from, step) = (words(7), 0x0300_0001);
        let mut fates = vec![Fate::Static; 7];
        let none = read(&from, &layers, step, &mut fates);
        assert!(matches!(none, Err(Error::InvalidState { .. })));
        report(&from[0], 0.0, step, sys::W4AXK_SKIP_FORCED);
        report(&from[1], 0.75, step, sys::W4AXK_SKIP_SKIPPED);
        report(&from[2], 0.0, step, sys::W4AXK_SKIP_PASSED);
        report(&from[4], 0.0, step, sys::W4AXK_SKIP_STALE);
        report(&from[5], 0.25, step, sys::W4AXK_SKIP_KEPT);
        report(&from[6], 0.5, step, sys::W4AXK_SKIP_KEPT);
        let run = read(&from, &layers, step, &mut fates).unwrap();
        let expected = [
            Fate::Forced,
            Fate::Skipped(0.75),
            Fate::Covered(1),
            Fate::Static,
            Fate::Forced,
            Fate::Declined(0.25),
            Fate::Declined(0.5),
        ];
        assert_eq!(fates, expected);
        assert_eq!(
            run,
            SkipRun {
                layers_run: 5,
                stale: 1
            }
        );
        report(&from[6], f32::NAN, step, sys::W4AXK_SKIP_NAN);
        read(&from, &layers, step, &mut fates).unwrap();
        assert!(matches!(fates[6], Fate::Declined(p) if p.is_nan()));
        // A skip is of its own gap only; a word of another step is none of this.
        report(&from[4], 0.0, step, sys::W4AXK_SKIP_PASSED);
        assert!(read(&from, &layers, step, &mut fates).is_err());
        report(&from[4], 0.0, step - 1, sys::W4AXK_SKIP_FORCED);
        assert!(read(&from, &layers, step, &mut fates).is_err());
        assert!(read(&from, &layers, step, &mut fates[1..]).is_err());
    }
}
