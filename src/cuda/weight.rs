//! INT4 weights on a device, uploaded once.

use super::gemm::options::{extent, group_code, scale_code};
use super::sys::{self, status};
use crate::weights::GroupSums;
use crate::{Error, Grouping, PackedWeight, Result, ScaleType};
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaContext, CudaSlice, DevicePtr};
use std::sync::Arc;

/// Where a part of the allocation begins: what the kernels read in one go never straddles this.
const ALIGNMENT: usize = 256;

/// A [`PackedWeight`] in a device's memory, in the same layout. Made by [`super::Gpu::upload`].
///
/// It never changes, so any number of streams and threads may read it at once. Dropping it waits until the device is idle
/// and then frees the memory: do that when nothing is captured, and not before the last graph that reads it is gone.
pub struct DeviceWeight {
    n: usize,
    k: usize,
    grouping: Grouping,
    scale_type: ScaleType,
    symmetric: bool,
    args: Addresses,
    context: Arc<CudaContext>,
    /// All of it, in one allocation.
    memory: CudaSlice<u8>,
}

/// Offsets of the parts in the allocation, then addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Addresses {
    tiles: CUdeviceptr,
    scales: CUdeviceptr,
    /// 0 when symmetric.
    zeros: CUdeviceptr,
    sums: CUdeviceptr,
}

/// The parts of a weight in one run of bytes, each at a multiple of [`ALIGNMENT`], and their offsets.
fn gather(w: &PackedWeight) -> (Vec<u8>, Addresses) {
    let mut bytes = Vec::with_capacity(w.packed_bytes() * 17 / 16 + 4 * ALIGNMENT);
    let mut put = |part: &[u8]| {
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        let at = bytes.len() as CUdeviceptr;
        bytes.extend_from_slice(part);
        at
    };
    let addresses = Addresses {
        tiles: put(bytemuck::cast_slice(w.tiles())),
        scales: put(w.tiled_scales().bytes()),
        zeros: w.tiled_zeros().map_or(0, |z| put(bytemuck::cast_slice(z))),
        sums: match w.tiled_sums() {
            GroupSums::Grouped(sums) => put(bytemuck::cast_slice(sums)),
            GroupSums::PerChannel(sums) => put(bytemuck::cast_slice(sums)),
        },
    };
    (bytes, addresses)
}

impl DeviceWeight {
    pub(crate) fn upload(context: &Arc<CudaContext>, w: &PackedWeight) -> Result<Self> {
        extent("N", w.n())?;
        extent("K", w.k())?;
        let (bytes, offsets) = gather(w);
        let stream = context.default_stream();
        let memory = stream
            .clone_htod(&bytes)
            .map_err(status::driver("uploading a weight"))?;
        // From here on it is read by any stream: it must be there, and `bytes` may go.
        stream
            .synchronize()
            .map_err(status::driver("uploading a weight"))?;
        let (start, guard) = memory.device_ptr(&stream);
        drop(guard);
        let args = Addresses {
            tiles: start + offsets.tiles,
            scales: start + offsets.scales,
            zeros: w.tiled_zeros().map_or(0, |_| start + offsets.zeros),
            sums: start + offsets.sums,
        };
        Ok(Self {
            n: w.n(),
            k: w.k(),
            grouping: w.grouping(),
            scale_type: w.tiled_scales().scale_type(),
            symmetric: w.is_symmetric(),
            args,
            context: context.clone(),
            memory,
        })
    }

    /// Output channels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// How scales are shared along k.
    pub fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// The number type of the scales.
    pub fn scale_type(&self) -> ScaleType {
        self.scale_type
    }

    /// Whether there are no zero points.
    pub fn is_symmetric(&self) -> bool {
        self.symmetric
    }

    /// The device that holds it.
    pub fn device(&self) -> usize {
        self.context.ordinal()
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.memory.len()
    }

    pub(crate) fn check_device(&self, ordinal: usize) -> Result<()> {
        if self.device() == ordinal {
            return Ok(());
        }
        Err(Error::DeviceMismatch {
            what: "weight",
            expected: format!("a weight on CUDA device {ordinal}, which the stream belongs to"),
            got: format!("a weight on CUDA device {}", self.device()),
        })
    }

    pub(crate) fn as_args(&self) -> sys::w4axk_weight {
        sys::w4axk_weight {
            tiles: self.args.tiles as *const _,
            scales: self.args.scales as *const _,
            zeros: self.args.zeros as *const _,
            sums: self.args.sums as *const _,
            // `upload` has checked that they fit.
            n: self.n as u32,
            k: self.k as u32,
            group: group_code(self.grouping),
            scale_type: scale_code(self.scale_type),
        }
    }
}

impl Drop for DeviceWeight {
    fn drop(&mut self) {
        // Launches on other streams than the allocation's may still read it. An error here will come up at the next call.
        let _ = self.context.synchronize();
    }
}

impl std::fmt::Debug for DeviceWeight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceWeight")
            .field("n", &self.n)
            .field("k", &self.k)
            .field("grouping", &self.grouping)
            .field("scale_type", &self.scale_type)
            .field("symmetric", &self.symmetric)
            .field("device", &self.device())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MatRef, Scales};

    #[test]
    fn parts_are_aligned_and_whole() {
        let (n, k) = (20, 100);
        let q: Vec<i8> = (0..n * k).map(|i| (i % 16) as i8 - 8).collect();
        for (grouping, zeros) in [
            (Grouping::G32, Some(vec![3i8; n * 4])),
            (Grouping::PerChannel, None),
        ] {
            let scales = Scales::F32(vec![0.5; n * grouping.groups(k)]);
            let q = MatRef::new(&q, n, k).unwrap();
            let w = PackedWeight::from_quantized(q, grouping, &scales, zeros.as_deref()).unwrap();
            let (bytes, at) = gather(&w);
            let part = |at: u64, len: usize| &bytes[at as usize..][..len];
            assert_eq!(
                part(at.tiles, 1024 * 2),
                bytemuck::cast_slice::<_, u8>(w.tiles())
            );
            let scale_bytes = w.tiled_scales().bytes();
            assert_eq!(part(at.scales, scale_bytes.len()), scale_bytes);
            match w.tiled_zeros() {
                Some(zeros) => {
                    assert_eq!(
                        part(at.zeros, zeros.len()),
                        bytemuck::cast_slice::<_, u8>(zeros)
                    );
                }
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
}
