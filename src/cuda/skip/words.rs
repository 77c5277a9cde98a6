//! The words of a step that skips layers, between host and device. The header `w4ax_skip.h` of the
//! kernels defines them.

use crate::cuda::memory::Pinned;
use crate::cuda::{Gpu, sys};
use crate::skip::{Fate, Gap, Layers};
use crate::{Error, Result};
use cudarc::driver::sys::CUdeviceptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Totals of a step on the device, in addition to the fate of each layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkipRun {
    /// Layers that ran, including the static ones.
    pub layers_run: usize,
    /// Layers among them that ran ([`Fate::Forced`]) because their gap had no allow-point of this
    /// step.
    pub stale: usize,
}

/// The words of a [`SkipGraph`](super::SkipGraph) in memory that the host and a GPU share: the host
/// stores allow-points, and the device stores the fates of the layers.
pub struct SkipWords {
    memory: Pinned,
    layers: Layers,
}

// SAFETY: the words are atomics, which any thread may use; the rest does not change.
unsafe impl Send for SkipWords {}
// SAFETY: as above.
unsafe impl Sync for SkipWords {}

impl SkipWords {
    pub(super) fn new(gpu: &Gpu, layers: &Layers) -> Result<Self> {
        let words = layers.gaps().len() + layers.len();
        Ok(Self {
            memory: Pinned::new(gpu.context(), words * size_of::<u64>())?,
            layers: layers.clone(),
        })
    }

    /// The words of the gaps and of the layers.
    fn words(&self) -> (&[AtomicU64], &[AtomicU64]) {
        let gaps = self.layers.gaps().len();
        let all = gaps + self.layers.len();
        // SAFETY: `new` allocated that many words, zero at first, at the start of a page. The
        // device changes them as atomics: whole words, with release stores.
        let words = unsafe { std::slice::from_raw_parts(self.memory.host().cast().as_ptr(), all) };
        words.split_at(gaps)
    }

    /// The address of the words of the gaps on the device.
    pub(super) fn allow_address(&self) -> CUdeviceptr {
        self.memory.address()
    }

    /// The address of the word of a layer on the device.
    pub(super) fn report_address(&self, layer: usize) -> CUdeviceptr {
        self.memory.address() + (8 * (self.layers.gaps().len() + layer)) as CUdeviceptr
    }

    /// Stores the allow-points of step `sequence`
    /// ([`Guide::allow_points`](crate::skip::Guide::allow_points)), before the step is launched. A
    /// gap without a point for its step skips nothing.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is one point for each gap, [`Error::Range`] for a point
    /// outside of its gap. Nothing is stored then.
    pub fn store(&self, sequence: u32, allow_points: &[usize]) -> Result<()> {
        store(self.words().0, self.layers.gaps(), sequence, allow_points)
    }

    /// Withdraws all points. The next launch skips nothing, as the verification of a step requires.
    ///
    /// Each launch advances the number of the step. The second pass of a step therefore has the
    /// next number, here and for a latch in [`SkipPart::Before`](super::SkipPart::Before). Store
    /// its width in the flag again under that number; otherwise it runs at BF16.
    pub fn forbid(&self) {
        for word in self.words().0 {
            word.store(0, std::sync::atomic::Ordering::Release);
        }
    }

    /// Reads the fate of each layer in step `sequence` into `fates[layers]`, after the step has
    /// ended on its stream.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is one fate for each layer, [`Error::InvalidState`] if the
    /// step has not ended, or another step has run since.
    pub fn fates(&self, sequence: u32, fates: &mut [Fate]) -> Result<SkipRun> {
        read(self.words().1, &self.layers, sequence, fates)
    }
}

impl std::fmt::Debug for SkipWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SkipWords")
            .field("device", &self.memory.ordinal())
            .field("layers", &self.layers)
            .finish()
    }
}

/// `sequence << 32 | layer + 1`. It is never 0, so unwritten memory is not a word.
fn word(sequence: u32, layer: usize) -> u64 {
    u64::from(sequence) << 32 | (layer as u64 + 1)
}

/// Stores the allow-points of a step, or none of them if one is invalid.
fn store(words: &[AtomicU64], gaps: &[Gap], sequence: u32, points: &[usize]) -> Result<()> {
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

/// Reads the reports of a step, by layer.
fn read(
    reports: &[AtomicU64],
    layers: &Layers,
    sequence: u32,
    fates: &mut [Fate],
) -> Result<SkipRun> {
    if fates.len() != layers.len() {
        return Err(Error::shape("fates", [layers.len()], [fates.len()]));
    }
    let mut run = SkipRun::default();
    // The gap and the layer of the last skip.
    let mut skipped = None;
    for (layer, fate) in fates.iter_mut().enumerate() {
        *fate = match layers.gap_of(layer) {
            None => Fate::Static,
            Some(gap) => {
                let report = reports[layer].load(Ordering::Acquire);
                let (reason, of) = (report as u32 & 0xFF, (report >> 8) as u32 & 0xFF_FFFF);
                let p = f32::from_bits((report >> 32) as u32);
                if of != sequence & 0xFF_FFFF && reason != sys::W4AXK_SKIP_NONE {
                    return Err(missing_report(
                        layer,
                        sequence,
                        format!("reports step {of} (its low 24 bits)"),
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
                            return Err(missing_report(
                                layer,
                                sequence,
                                "reports a skip that no layer made".into(),
                            ));
                        }
                    },
                    _ => return Err(missing_report(layer, sequence, "has no report".into())),
                }
            }
        };
        run.layers_run += usize::from(fate.ran());
    }
    Ok(run)
}

fn missing_report(layer: usize, sequence: u32, found: String) -> Error {
    Error::InvalidState {
        call: "fates of a step",
        reason: format!("layer {layer} {found}: expected step {sequence}"),
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
    fn stores_all_allow_points_or_none() {
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
        // The word of layer 0 of step 0 differs from unwritten memory.
        assert_ne!(word(0, 0), 0);
    }

    #[test]
    fn reads_fates_of_this_step_only() {
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
        // A skip covers its own gap only, and a report of another step is an error.
        report(&from[4], 0.0, step, sys::W4AXK_SKIP_PASSED);
        assert!(read(&from, &layers, step, &mut fates).is_err());
        report(&from[4], 0.0, step - 1, sys::W4AXK_SKIP_FORCED);
        assert!(read(&from, &layers, step, &mut fates).is_err());
        assert!(read(&from, &layers, step, &mut fates[1..]).is_err());
    }
}
