//! Packed weights in the memory of a device.

mod order;

pub use order::DeviceOrder;

use super::Gpu;
use super::gemm::limits::extent;
use super::memory::check_device;
use super::sys::enums::{grouping_code, scale_code};
use super::sys::{self, status};
use crate::weights::{GroupSums, KOrder};
use crate::{Grouping, PackedWeight, Result, ScaleType};
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaContext, CudaSlice, DevicePtr};
use std::sync::Arc;

/// Alignment of each part in the allocation. It is a multiple of every vector load of the kernels.
const ALIGNMENT: usize = 256;

/// A [`PackedWeight`] in the memory of a device, in the same layout. Created by [`Gpu::upload`].
///
/// It never changes, so any number of streams and threads may read it at once. Dropping it waits
/// until the device is idle and then frees the memory: drop it outside of captures, and after the
/// last graph that reads it.
pub struct DeviceWeight {
    n: usize,
    k: usize,
    grouping: Grouping,
    scale_type: ScaleType,
    symmetric: bool,
    order: Option<DeviceOrder>,
    parts: Addresses,
    context: Arc<CudaContext>,
    /// All parts but the order, in one allocation.
    memory: CudaSlice<u8>,
}

/// Offsets of the parts in the allocation, then addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Addresses {
    tiles: CUdeviceptr,
    scales: CUdeviceptr,
    /// 0 for a symmetric weight.
    zeros: CUdeviceptr,
    sums: CUdeviceptr,
}

/// Concatenates the parts of a weight, each at a multiple of [`ALIGNMENT`]. Returns the bytes and
/// the offsets.
fn concatenate(w: &PackedWeight) -> (Vec<u8>, Addresses) {
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

impl Gpu {
    /// Copies a weight to the device, in its packed layout and with its order of k. Returns after
    /// the copy.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) for an extent that the kernels do not support,
    /// [`Error::Driver`](crate::Error::Driver) if the device is out of memory.
    pub fn upload(&self, weight: &PackedWeight) -> Result<DeviceWeight> {
        DeviceWeight::upload(self.context(), weight)
    }

    /// Copies an order of k to the device. Returns after the copy.
    ///
    /// [`Gpu::upload`] copies the order of a weight with it. This is for an order that several
    /// weights share.
    ///
    /// # Errors
    /// As [`Gpu::upload`].
    pub fn upload_order(&self, order: &KOrder) -> Result<DeviceOrder> {
        DeviceOrder::upload(self.context(), order)
    }
}

impl DeviceWeight {
    fn upload(context: &Arc<CudaContext>, w: &PackedWeight) -> Result<Self> {
        const CALL: &str = "uploading a weight";
        extent("N", w.n())?;
        extent("K", w.k())?;
        let (bytes, offsets) = concatenate(w);
        let stream = context.default_stream();
        let memory = stream.clone_htod(&bytes).map_err(status::driver(CALL))?;
        // Any stream may read the weight from now on, and `bytes` is freed.
        stream.synchronize().map_err(status::driver(CALL))?;
        let (start, guard) = memory.device_ptr(&stream);
        drop(guard);
        let parts = Addresses {
            tiles: start + offsets.tiles,
            scales: start + offsets.scales,
            zeros: w.tiled_zeros().map_or(0, |_| start + offsets.zeros),
            sums: start + offsets.sums,
        };
        let order = w.order().map(|order| DeviceOrder::upload(context, order));
        Ok(Self {
            n: w.n(),
            k: w.k(),
            grouping: w.grouping(),
            scale_type: w.tiled_scales().scale_type(),
            symmetric: w.is_symmetric(),
            order: order.transpose()?,
            parts,
            context: context.clone(),
            memory,
        })
    }

    /// Number of output channels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Number of inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// How weights along k share scales.
    pub fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// The number type of the scales.
    pub fn scale_type(&self) -> ScaleType {
        self.scale_type
    }

    /// Whether the weight has no zero points.
    pub fn is_symmetric(&self) -> bool {
        self.symmetric
    }

    /// The order of k of the packed weight; `None` if it is that of the matrix.
    ///
    /// [`Gpu::run`] gathers the activations by itself. GEMMs that share an input and an order can
    /// share one [`Gpu::gather`] instead ([`Gemm::gathered`](super::Gemm::gathered)).
    pub fn order(&self) -> Option<&DeviceOrder> {
        self.order.as_ref()
    }

    /// The device that holds the weight.
    pub fn device(&self) -> usize {
        self.context.ordinal()
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.memory.len() + self.order.as_ref().map_or(0, DeviceOrder::bytes)
    }

    pub(crate) fn check_device(&self, ordinal: usize) -> Result<()> {
        check_device("weight", "a weight", ordinal, self.device())
    }

    pub(crate) fn as_args(&self) -> sys::w4axk_weight {
        sys::w4axk_weight {
            tiles: self.parts.tiles as *const _,
            scales: self.parts.scales as *const _,
            zeros: self.parts.zeros as *const _,
            sums: self.parts.sums as *const _,
            // `upload` checked that both fit.
            n: self.n as u32,
            k: self.k as u32,
            group: grouping_code(self.grouping),
            scale_type: scale_code(self.scale_type),
        }
    }
}

impl Drop for DeviceWeight {
    fn drop(&mut self) {
        // Launches on other streams may still read the memory. The next call reports an error of
        // this one.
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
            .field("order", &self.order.is_some())
            .field("device", &self.device())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MatRef, Scales};

    #[test]
    fn aligns_and_copies_each_part() {
        let (n, k) = (20, 100);
        let q: Vec<i8> = (0..n * k).map(|i| (i % 16) as i8 - 8).collect();
        for (grouping, zeros) in [
            (Grouping::G32, Some(vec![3i8; n * 4])),
            (Grouping::PerChannel, None),
        ] {
            let scales = Scales::F32(vec![0.5; n * grouping.groups(k)]);
            let q = MatRef::new(&q, n, k).unwrap();
            let w = PackedWeight::from_quantized(q, grouping, &scales, zeros.as_deref()).unwrap();
            let (bytes, at) = concatenate(&w);
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
