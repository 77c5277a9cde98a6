//! The parts of a packed weight in one allocation: tiles, scales, zero points, sums and group
//! steps.

use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, CudaStream, DriverError};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::weights::GroupSums;
use crate::weights::layout::TILE_N;
use crate::{Error, PackedWeight, Result};

/// Alignment of each part in the allocation. It is a multiple of every vector load of the kernels.
const ALIGNMENT: usize = 256;

/// Addresses of the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    pub tiles: CUdeviceptr,
    pub scales: CUdeviceptr,
    /// 0 for a symmetric or two-level weight.
    pub zeros: CUdeviceptr,
    pub sums: CUdeviceptr,
    /// 0 for a grouped weight.
    pub steps: CUdeviceptr,
}

/// The parts of a weight, and where their copies are in the allocation.
///
/// Each part is `[ceil(N/16)][..]`. Copies of a weight below each other are copies of each part one
/// after the other, if N is a multiple of 16.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    /// Tiles, scales, zero points, sums and group steps; empty if the weight has none.
    parts: [Cow<'a, [u8]>; 5],
    /// Offsets of the first copies.
    offsets: [usize; 5],
    times: usize,
    bytes: usize,
}

impl<'a> Layout<'a> {
    /// Places `times` copies of each part, the first at a multiple of [`ALIGNMENT`].
    pub fn new(w: &'a PackedWeight, times: usize) -> Result<Self> {
        if times == 0 || (times > 1 && !w.n().is_multiple_of(TILE_N)) {
            return Err(Error::Range {
                what: "copies of a weight",
                value: format!("{times} of {} channels", w.n()),
                range: "1, or more of a multiple of 16 channels",
            });
        }
        let parts = [
            Cow::Borrowed(bytemuck::cast_slice(w.tiles())),
            Cow::Borrowed(w.tiled_scales().bytes()),
            // The words of group steps hold the zero points of a two-level weight.
            Cow::Borrowed(w.sum_zeros().map_or(&[][..], bytemuck::cast_slice)),
            Cow::Borrowed(match w.tiled_sums() {
                GroupSums::Grouped(sums) => bytemuck::cast_slice(sums),
                GroupSums::PerChannel(sums) => bytemuck::cast_slice(sums),
            }),
            Cow::Owned(bytemuck::cast_slice(&step_words(w)).to_vec()),
        ];
        let mut bytes = 0usize;
        let offsets = parts.each_ref().map(|part| {
            let at = bytes.next_multiple_of(ALIGNMENT);
            bytes = at + part.len() * times;
            at
        });
        Ok(Self {
            parts,
            offsets,
            times,
            bytes,
        })
    }

    /// Returns the addresses of the parts in an allocation that begins at `start`.
    pub fn addresses(&self, start: CUdeviceptr) -> Addresses {
        let mut addresses = self.offsets.map(|at| start + at as CUdeviceptr);
        for (address, part) in addresses.iter_mut().zip(&self.parts) {
            if part.is_empty() {
                *address = 0;
            }
        }
        let [tiles, scales, zeros, sums, steps] = addresses;
        Addresses {
            tiles,
            scales,
            zeros,
            sums,
            steps,
        }
    }

    /// Returns the bytes of the allocation with the first copy of each part.
    pub fn concatenate(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes];
        for (part, &at) in self.parts.iter().zip(&self.offsets) {
            bytes[at..][..part.len()].copy_from_slice(part);
        }
        bytes
    }

    /// Returns the allocation with all copies, of which the device makes all but the first.
    pub fn repeat(
        &self,
        stream: &Arc<CudaStream>,
    ) -> std::result::Result<CudaSlice<u8>, DriverError> {
        let mut memory = stream.alloc_zeros::<u8>(self.bytes)?;
        for (part, &at) in self.parts.iter().zip(&self.offsets) {
            if part.is_empty() {
                continue;
            }
            let mut copies = memory.slice_mut(at..at + part.len() * self.times);
            stream.memcpy_htod(&part[..], &mut copies.slice_mut(..part.len()))?;
            for (from, to) in doublings(part.len(), self.times) {
                let (filled, mut rest) = copies.split_at_mut(to);
                stream.memcpy_dtod(&filled.slice(from), &mut rest)?;
            }
        }
        Ok(memory)
    }
}

/// The group steps of a two-level weight as the kernels take them, `[ceil(N/16)][groups][16]`: `sg`
/// in bits 4..0, `(zg + 8) * sg` in bits 15..7. Empty for a grouped weight.
fn step_words(w: &PackedWeight) -> Vec<u16> {
    let steps = w.tiled_steps().unwrap_or_default();
    let zeros = |at: usize| w.tiled_zeros().map_or(0, |zeros| i16::from(zeros[at]));
    (steps.iter().enumerate())
        .map(|(at, &step)| u16::from(step) | ((zeros(at) + 8) as u16 * u16::from(step)) << 7)
        .collect()
}

/// Returns the copies that fill `times * len` elements, of which the first `len` are filled: the
/// source, and where it is copied to.
fn doublings(len: usize, times: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
    let mut filled = len;
    std::iter::from_fn(move || {
        let count = filled.min(times * len - filled);
        let to = filled;
        filled += count;
        (count > 0).then_some((0..count, to))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Grouping, MatRef, Scales, Scheme};

    const K: usize = 100;

    /// Returns a two-level weight of `n` channels whose rows repeat after 32 of them.
    fn two_level(n: usize) -> PackedWeight {
        let grouping = Grouping::G64;
        let groups = grouping.groups(K);
        let at = |i: usize, step: usize, range: usize| (i % (32 * step)) * 7 % range;
        let q: Vec<i8> = (0..n * K).map(|i| at(i, K, 13) as i8 - 6).collect();
        let steps: Vec<u8> = (0..n * groups)
            .map(|i| at(i, groups, 11) as u8 + 1)
            .collect();
        let zeros: Vec<i8> = (0..n * groups)
            .map(|i| at(i, groups, 9) as i8 - 4)
            .collect();
        let scales = (0..n).map(|i| 1.0 + at(i, 1, 32) as f32).collect();
        let q = MatRef::new(&q, n, K).unwrap();
        PackedWeight::from_two_level(q, grouping, &steps, &Scales::F32(scales), Some(&zeros))
            .unwrap()
    }

    /// Returns a weight of `n` channels whose rows repeat after 32 of them.
    fn weight(n: usize, grouping: Grouping, symmetric: bool) -> PackedWeight {
        let groups = grouping.groups(K);
        let q: Vec<i8> = (0..n * K)
            .map(|i| ((i % (32 * K)) * 7 % 16) as i8 - 8)
            .collect();
        let scales = (0..n * groups).map(|i| 1.0 + (i % (32 * groups)) as f32);
        let zeros: Vec<i8> = (0..n * groups)
            .map(|i| (i % (32 * groups) % 17) as i8 - 8)
            .collect();
        let q = MatRef::new(&q, n, K).unwrap();
        let scales = Scales::F32(scales.collect());
        let zeros = (!symmetric).then_some(&zeros[..]);
        PackedWeight::from_quantized(q, grouping, &scales, zeros).unwrap()
    }

    fn weights(n: usize) -> [PackedWeight; 3] {
        [
            weight(n, Grouping::G32, false),
            weight(n, Grouping::PerChannel, true),
            two_level(n),
        ]
    }

    #[test]
    fn step_words_hold_step_and_zero_point() {
        let w = two_level(20);
        let words = step_words(&w);
        assert_eq!(words.len(), 2 * w.groups() * TILE_N);
        for (row, group) in [(0, 0), (7, 1), (15, 0), (16, 1), (19, 0)] {
            let word = i32::from(words[(row / 16 * w.groups() + group) * 16 + row % 16]);
            let (step, zero) = (i32::from(w.step(row, group)), i32::from(w.zero(row, group)));
            assert_eq!((word & 31, word >> 7), (step, (zero + 8) * step));
        }
        // Rows beyond N.
        assert_eq!(words[(w.groups() + 1) * 16 + 4..], [0; 12]);
        assert!(step_words(&weight(20, Grouping::G32, false)).is_empty());
    }

    #[test]
    fn aligns_and_copies_each_part() {
        for w in weights(20) {
            let layout = Layout::new(&w, 1).unwrap();
            let (bytes, at) = (layout.concatenate(), layout.addresses(0));
            let part = |at: u64, len: usize| &bytes[at as usize..][..len];
            assert_eq!(
                part(at.tiles, 1024 * 2),
                bytemuck::cast_slice::<_, u8>(w.tiles())
            );
            let scale_bytes = w.tiled_scales().bytes();
            assert_eq!(part(at.scales, scale_bytes.len()), scale_bytes);
            match w.sum_zeros() {
                Some(zeros) => assert_eq!(
                    part(at.zeros, zeros.len()),
                    bytemuck::cast_slice::<_, u8>(zeros)
                ),
                None => assert_eq!(at.zeros, 0),
            }
            let sums: &[u8] = match w.tiled_sums() {
                GroupSums::Grouped(v) => bytemuck::cast_slice(v),
                GroupSums::PerChannel(v) => bytemuck::cast_slice(v),
            };
            assert_eq!(part(at.sums, sums.len()), sums);
            let words = step_words(&w);
            match w.scheme() {
                Scheme::Grouped => assert_eq!(at.steps, 0),
                Scheme::TwoLevel => assert_eq!(
                    part(at.steps, 2 * words.len()),
                    bytemuck::cast_slice::<_, u8>(&words)
                ),
            }
            for at in [at.tiles, at.scales, at.zeros, at.sums, at.steps] {
                assert_eq!(at % ALIGNMENT as u64, 0);
            }
        }
    }

    #[test]
    fn repeated_parts_are_those_of_repeated_rows() {
        for times in [1, 2, 3, 7] {
            for (one, all) in weights(32).into_iter().zip(weights(32 * times)) {
                let repeated = Layout::new(&one, times).unwrap();
                let expected = Layout::new(&all, 1).unwrap();
                assert_eq!(repeated.addresses(64), expected.addresses(64));
                assert_eq!(repeated.bytes, expected.bytes);
                // As `Layout::repeat`, in memory of the host.
                let mut bytes = vec![0; repeated.bytes];
                for (part, &at) in repeated.parts.iter().zip(&repeated.offsets) {
                    bytes[at..][..part.len()].copy_from_slice(part);
                    for (from, to) in doublings(part.len(), times) {
                        let copies = &mut bytes[at..][..part.len() * times];
                        let (filled, rest) = copies.split_at_mut(to);
                        let source = &filled[from];
                        rest[..source.len()].copy_from_slice(source);
                    }
                }
                assert!(bytes == expected.concatenate(), "{} {times}", one.scheme());
            }
        }
    }

    #[test]
    fn rejects_copies_of_partial_tiles() {
        let w = weight(20, Grouping::G32, true);
        assert!(Layout::new(&w, 1).is_ok());
        for times in [0, 2] {
            let error = Layout::new(&w, times).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{times} of 20 channels")),
                "{error}"
            );
        }
    }
}
