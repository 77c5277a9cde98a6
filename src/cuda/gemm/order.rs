//! Weights in another order of k (GPTQ's `desc_act`) on a device: x is gathered there, ahead of the GEMM.

use super::options::{extent, stride};
use super::{Gemm, GemmOptions};
use crate::cuda::memory::{DeviceMatMut, DeviceMatRef, Target, Workspace};
use crate::cuda::sys::{self, status};
use crate::cuda::{DeviceWeight, Gpu};
use crate::weights::KOrder;
use crate::{Error, PackedWeight, Result, WidthSource};
use cudarc::driver::sys::{CUdeviceptr, CUstream};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr};
use half::bf16;
use std::sync::Arc;

/// A [`KOrder`] in a device's memory. Made by [`Gpu::upload_order`].
///
/// It never changes, so any number of streams and threads may read it at once. Dropping it waits until the device is idle, as
/// a [`DeviceWeight`] does.
pub struct DeviceOrder {
    address: CUdeviceptr,
    context: Arc<CudaContext>,
    memory: CudaSlice<u32>,
}

impl DeviceOrder {
    fn upload(context: &Arc<CudaContext>, order: &KOrder) -> Result<Self> {
        let stream = context.default_stream();
        extent("K", order.as_slice().len())?;
        let memory = stream
            .clone_htod(order.as_slice())
            .map_err(status::driver("uploading an order of k"))?;
        // From here on it is read by any stream.
        stream
            .synchronize()
            .map_err(status::driver("uploading an order of k"))?;
        let (address, guard) = memory.device_ptr(&stream);
        drop(guard);
        Ok(Self {
            address,
            context: context.clone(),
            memory,
        })
    }

    /// Inputs.
    pub fn k(&self) -> usize {
        self.memory.len()
    }

    /// The device that holds it.
    pub fn device(&self) -> usize {
        self.context.ordinal()
    }

    /// What a gather needs: x and y of one shape with these K, on this order's device.
    fn check(
        &self,
        x: &DeviceMatRef<'_, bf16>,
        gathered: &DeviceMatMut<'_, bf16>,
        target: Target<'_>,
    ) -> Result<()> {
        let (m, k) = (x.rows(), x.cols());
        if k != self.k() {
            return Err(Error::shape("x", [m, self.k()], [m, k]));
        }
        let to = [gathered.rows(), gathered.cols()];
        if to != [m, k] {
            return Err(Error::shape("gathered x", [m, k], to));
        }
        let ordinal = target.context.ordinal();
        if self.device() != ordinal {
            return Err(Error::DeviceMismatch {
                what: "order of k",
                expected: format!("an order on CUDA device {ordinal}, which the stream belongs to"),
                got: format!("an order on CUDA device {}", self.device()),
            });
        }
        x.place.check("x", target)?;
        gathered.place.check("gathered x", target)
    }
}

impl Drop for DeviceOrder {
    fn drop(&mut self) {
        // Launches on other streams than the allocation's may still read it. An error here will come up at the next call.
        let _ = self.context.synchronize();
    }
}

impl std::fmt::Debug for DeviceOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceOrder")
            .field("k", &self.k())
            .field("device", &self.device())
            .finish()
    }
}

/// A weight with an order of k in a device's memory, and that
/// order. Made by [`Gpu::upload_act_order`]. A type of its own, so that no GEMM takes one without the gather.
///
/// ```no_run
/// use half::bf16;
/// use w4ax::checkpoint::Checkpoint;
/// use w4ax::cuda::{DeviceMatMut, DeviceMatRef, Gpu};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let w = Checkpoint::open("model-gptq")?.weight("model.layers.0.mlp.up_proj")?;
/// let (m, n, k) = (7, w.n(), w.k());
/// let gpu = Gpu::new(0)?;
/// let weight = gpu.upload_act_order(&w)?;
/// let stream = gpu.context().new_stream()?;
/// let x = stream.clone_htod(&vec![bf16::ONE; m * k])?;
/// let (mut y, mut gathered) = (stream.alloc_zeros::<bf16>(m * n)?, stream.alloc_zeros::<bf16>(m * k)?);
/// let x = DeviceMatRef::new(x.as_view(), m, k)?;
/// let mut y = DeviceMatMut::new(y.as_view_mut(), m, n)?;
/// let mut gathered = DeviceMatMut::new(gathered.as_view_mut(), m, k)?;
/// let mut workspace = gpu.workspace(&stream, m, k)?;
/// let width = w4ax::Width::A8;
/// gpu.gemm_act_order(&stream, &x, &weight, width, None, &mut y, &mut gathered, &mut workspace)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DeviceActOrderWeight {
    weight: DeviceWeight,
    order: DeviceOrder,
}

impl DeviceActOrderWeight {
    /// The weight as it is packed: its k are [`DeviceActOrderWeight::order`]'s.
    pub fn weight(&self) -> &DeviceWeight {
        &self.weight
    }

    /// Which k of the matrix stands where in the packed weight.
    pub fn order(&self) -> &DeviceOrder {
        &self.order
    }
}

impl Gpu {
    /// Copies an order of k to the device. Waits until it is there.
    ///
    /// # Errors
    /// [`Error::Range`] for a K that no kernel takes, [`Error::Cuda`] if there is no memory for it.
    pub fn upload_order(&self, order: &KOrder) -> Result<DeviceOrder> {
        DeviceOrder::upload(self.context(), order)
    }

    /// Copies a weight and its order of k to the device. Waits until they are there.
    ///
    /// # Errors
    /// As [`Gpu::upload`] and [`Gpu::upload_order`]; [`Error::Unsupported`] for a weight without an order.
    pub fn upload_act_order(&self, weight: &PackedWeight) -> Result<DeviceActOrderWeight> {
        let Some(order) = weight.order() else {
            let reason = "it has no order of k; Gpu::upload takes it";
            return Err(Error::unsupported("weight", "a gathered GEMM", reason));
        };
        Ok(DeviceActOrderWeight {
            weight: DeviceWeight::upload(self.context(), weight)?,
            order: self.upload_order(order)?,
        })
    }

    /// Launches `gathered[m, i] = x[m, order[i]]` on a stream, once for all GEMMs whose weights have this order, whatever
    /// their width; [`Gpu::quantize_pack`] and a [`Latch`](crate::cuda::Latch) may come after it.
    ///
    /// Allocates nothing, waits for nothing, can be captured. M = 0 is allowed and does nothing.
    ///
    /// # Errors
    /// [`Error::Shape`] if x has not K columns or `gathered` not the shape of x, [`Error::DeviceMismatch`] for something on another
    /// device or of another stream, [`Error::Range`] for an extent that no kernel takes, [`Error::Cuda`] if the launch fails.
    pub fn gather(
        &self,
        stream: &CudaStream,
        order: &DeviceOrder,
        x: &DeviceMatRef<'_, bf16>,
        gathered: &mut DeviceMatMut<'_, bf16>,
    ) -> Result<()> {
        self.check_stream(stream)?;
        // SAFETY: a stream of this device's primary context, alive while it is borrowed.
        unsafe { self.launch_gather(stream.into(), order, x, gathered, false) }
    }

    /// [`Gpu::gather`] on a stream that is not cudarc's; with `pdl` as in [`GemmOptions::pdl`].
    ///
    /// # Safety
    /// As [`Gpu::gemm_on_raw`].
    ///
    /// # Errors
    /// As [`Gpu::gather`].
    pub unsafe fn gather_on_raw(
        &self,
        stream: CUstream,
        order: &DeviceOrder,
        x: &DeviceMatRef<'_, bf16>,
        gathered: &mut DeviceMatMut<'_, bf16>,
        pdl: bool,
    ) -> Result<()> {
        // SAFETY: the same contract.
        unsafe { self.launch_gather(self.raw_target(stream), order, x, gathered, pdl) }
    }

    /// # Safety
    /// The stream of `target` is alive, or null.
    unsafe fn launch_gather(
        &self,
        target: Target<'_>,
        order: &DeviceOrder,
        x: &DeviceMatRef<'_, bf16>,
        gathered: &mut DeviceMatMut<'_, bf16>,
        pdl: bool,
    ) -> Result<()> {
        order.check(x, gathered, target)?;
        if x.rows() == 0 {
            return Ok(());
        }
        let args = sys::w4axk_gather_args {
            x: x.place.address as *const _,
            x_stride: stride("row stride of x", x.stride())?,
            order: order.address as *const _,
            y: gathered.place.address as *mut _,
            y_stride: stride("row stride of gathered x", gathered.stride())?,
            m: extent("M", x.rows())?,
            k: extent("K", x.cols())?,
            kernel: sys::W4AXK_GATHER_PAIRS,
            flags: if pdl { sys::W4AXK_FLAG_PDL } else { 0 },
            device: self.number(),
            reserved: 0,
        };
        // SAFETY: x, the order and `gathered` are of this device, as `check` has seen, and cover the shape that goes with
        // them; each of the order's numbers is below K, as KOrder has seen; `gathered` is borrowed mutably, so it overlaps
        // nothing else. The memory outlives the launch, as in `Gpu::gemm`.
        let status = unsafe { sys::w4axk_gather(&args, target.stream.cast()) };
        status::check("gather", status)
    }

    /// [`Gpu::gemm`] with a weight whose k are in another order: gathers x into `gathered` first. At a [`Width`], or at
    /// what a [`Latch`](crate::cuda::Latch) says.
    ///
    /// `gathered` is a matrix `[M, K]` of the caller's; several weights of one order share it by [`Gpu::gather`] and
    /// [`DeviceActOrderWeight::weight`] instead. Allocates nothing, waits for nothing, can be captured.
    ///
    /// [`Width`]: crate::Width
    ///
    /// # Errors
    /// As [`Gpu::gather`] and [`Gpu::gemm`]. Nothing is launched if the GEMM's shapes do not fit together.
    #[allow(clippy::too_many_arguments)] // gemm's, and the scratch memory.
    pub fn gemm_act_order<'w>(
        &self,
        stream: &CudaStream,
        x: &DeviceMatRef<'_, bf16>,
        w: &DeviceActOrderWeight,
        width: impl Into<WidthSource<'w>>,
        bias: Option<&DeviceMatRef<'_, f32>>,
        y: &mut DeviceMatMut<'_, bf16>,
        gathered: &mut DeviceMatMut<'_, bf16>,
        workspace: &mut Workspace,
    ) -> Result<()> {
        let width = width.into();
        let options = GemmOptions {
            // Ours to overlap: the GEMM fetches weights while the gather runs.
            pdl: true,
            ..Default::default()
        };
        // Before anything is launched.
        Gemm::new(x, &w.weight, width).bias(bias).check_shapes(y)?;
        self.gather(stream, &w.order, x, gathered)?;
        let x = gathered.as_ref();
        let gemm = Gemm::new(&x, &w.weight, width).bias(bias).options(options);
        self.gemm(stream, &gemm, y, workspace)
    }
}
