//! The parts of a packed weight in one allocation: tiles, scales, zero points and sums.

use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, CudaStream, DriverError};
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
    /// 0 for a symmetric weight.
    pub zeros: CUdeviceptr,
    pub sums: CUdeviceptr,
}

/// The parts of a weight, and where their copies are in the allocation.
///
/// Each part is `[ceil(N/16)][..]`. Copies of a weight below each other are copies of each part one
/// after the other, if N is a multiple of 16.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    /// Tiles, scales, zero points (empty for a symmetric weight) and sums.
    parts: [&'a [u8]; 4],
    /// Offsets of the first copies.
    offsets: [usize; 4],
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
            bytemuck::cast_slice(w.tiles()),
            w.tiled_scales().bytes(),
            w.tiled_zeros().map_or(&[][..], bytemuck::cast_slice),
            match w.tiled_sums() {
                GroupSums::Grouped(sums) => bytemuck::cast_slice(sums),
                GroupSums::PerChannel(sums) => bytemuck::cast_slice(sums),
            },
        ];
        let mut bytes = 0usize;
        let offsets = parts.map(|part: &[u8]| {
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
        let [tiles, scales, zeros, sums] = self.offsets.map(|at| start + at as CUdeviceptr);
        let symmetric = self.parts[2].is_empty();
        Addresses {
            tiles,
            scales,
            zeros: if symmetric { 0 } else { zeros },
            sums,
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
        for (&part, &at) in self.parts.iter().zip(&self.offsets) {
            if part.is_empty() {
                continue;
            }
            let mut copies = memory.slice_mut(at..at + part.len() * self.times);
            stream.memcpy_htod(part, &mut copies.slice_mut(..part.len()))?;
            for (from, to) in doublings(part.len(), self.times) {
                let (filled, mut rest) = copies.split_at_mut(to);
                stream.memcpy_dtod(&filled.slice(from), &mut rest)?;
            }
        }
        Ok(memory)
    }
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
    use crate::{Grouping, MatRef, Scales};

    const K: usize = 100;

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

    #[test]
    fn aligns_and_copies_each_part() {
        for (grouping, symmetric) in [(Grouping::G32, false), (Grouping::PerChannel, true)] {
            let w = weight(20, grouping, symmetric);
            let layout = Layout::new(&w, 1).unwrap();
            let (bytes, at) = (layout.concatenate(), layout.addresses(0));
            let part = |at: u64, len: usize| &bytes[at as usize..][..len];
            assert_eq!(
                part(at.tiles, 1024 * 2),
                bytemuck::cast_slice::<_, u8>(w.tiles())
            );
            let scale_bytes = w.tiled_scales().bytes();
            assert_eq!(part(at.scales, scale_bytes.len()), scale_bytes);
            match w.tiled_zeros() {
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
            for at in [at.tiles, at.scales, at.zeros, at.sums] {
                assert_eq!(at % ALIGNMENT as u64, 0);
            }
        }
    }

    #[test]
    fn repeated_parts_are_those_of_repeated_rows() {
        for times in [1, 2, 3, 7] {
            for (grouping, symmetric) in [(Grouping::G32, false), (Grouping::PerChannel, true)] {
                let (one, all) = (
                    weight(32, grouping, symmetric),
                    weight(32 * times, grouping, symmetric),
                );
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
                assert!(bytes == expected.concatenate(), "{grouping} {times}");
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
