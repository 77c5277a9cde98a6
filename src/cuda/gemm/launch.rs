//! The launch of a GEMM.

use super::call::{Gemm, Input};
use super::limits::{aligned_stride, extent, gathered_bytes, stride};
use super::plan::{LaunchPlan, check_gemm, workspace_too_small};
use super::width::LaunchWidth;
use super::workspace::Workspace;
use crate::Result;
use crate::cuda::memory::{DeviceMatMut, StreamRef};
use crate::cuda::sys::enums::width_code;
use crate::cuda::{Gpu, sys};
use cudarc::driver::sys::CUdeviceptr;
use half::bf16;

/// Checks that a launch on `stream` may use every operand.
fn check_places(
    gemm: &Gemm<'_>,
    y: &DeviceMatMut<'_, bf16>,
    width: LaunchWidth<'_>,
    stream: StreamRef<'_>,
) -> Result<()> {
    gemm.weight().check_device(stream.context().ordinal())?;
    gemm.input_place().check("x", stream)?;
    if let Input::Latched(_, activations) = gemm.input() {
        activations.place().check("quantized activations", stream)?;
    }
    width.check(stream)?;
    y.place.check("y", stream)?;
    gemm.bias_vector()
        .map_or(Ok(()), |bias| bias.place.check("bias", stream))
}

impl Gpu {
    /// Plans the launches of [`Gpu::run`].
    ///
    /// # Errors
    /// As [`Gpu::run`]; [`Error::Range`](crate::Error::Range) for M = 0 as well.
    pub fn plan(&self, gemm: &Gemm<'_>, y: &DeviceMatMut<'_, bf16>) -> Result<LaunchPlan> {
        gemm.check_shapes(y)?;
        let width = LaunchWidth::read(gemm.width());
        // The start of a workspace is aligned, as the address 0 is.
        let plan = LaunchPlan::of(&self.gemm_args(gemm, y, width, 0)?)?;
        let (m, k) = gemm.shape();
        Ok(match gemm.gather() {
            Some(_) => plan.after_gather(gathered_bytes(m, k)),
            None => plan,
        })
    }

    /// Launches `y[M, N] = x[M, K] * W[N, K]^T + bias[N]` on a stream, with the arithmetic of
    /// [`crate::numerics`].
    ///
    /// For a weight with an order of k it gathers x into the workspace first. The launches allocate
    /// nothing, do not synchronize, and can be captured. A graph holds the bare addresses, so what
    /// was captured must outlive it. No cudarc event is recorded or waited for: all memory belongs
    /// to the stream of the launch (see [`DeviceMatRef`](crate::cuda::DeviceMatRef)). The caller
    /// orders reads of y on other streams, for example with
    /// [`CudaStream::join`](cudarc::driver::CudaStream::join). M = 0 is allowed and launches
    /// nothing.
    ///
    /// # Errors
    /// - [`Error::Shape`](crate::Error::Shape) for shapes that do not match,
    /// - [`Error::DeviceMismatch`](crate::Error::DeviceMismatch) for an argument of another device
    ///   or stream,
    /// - [`Error::Range`](crate::Error::Range) for a kernel that does not exist,
    /// - [`Error::Buffer`](crate::Error::Buffer) if the workspace is too small,
    /// - [`Error::Cuda`](crate::Error::Cuda) if a launch fails.
    pub fn run<'s>(
        &self,
        stream: impl Into<StreamRef<'s>>,
        gemm: &Gemm<'_>,
        y: &mut DeviceMatMut<'_, bf16>,
        workspace: &mut Workspace,
    ) -> Result<()> {
        let stream = stream.into();
        let width = LaunchWidth::read(gemm.width());
        self.check_stream(stream)?;
        gemm.check_shapes(y)?;
        check_places(gemm, y, width, stream)?;
        workspace.place().check("workspace", stream)?;
        if gemm.shape().0 == 0 {
            return Ok(());
        }
        let place = workspace.place();
        let mut args = self.gemm_args(gemm, y, width, place.address)?;
        let skipped = self.gather_input(stream, gemm, &args, workspace)?;
        // Activations that were quantized at a latched width take the place of those that the
        // launch would write.
        let (scratch, bytes) = match gemm.input() {
            Input::Latched(_, activations) => (activations.place().address, activations.bytes()),
            _ => (
                place.address + skipped as CUdeviceptr,
                workspace.bytes() - skipped,
            ),
        };
        args.workspace = scratch as *mut _;
        args.workspace_bytes = bytes as u64;
        // SAFETY: every address is in the memory of this device, as `check_places` verified, and
        // covers its shape, as the constructor of its type verified or its caller promised. `y` and
        // `workspace` are borrowed mutably, so they overlap no other argument. The memory outlives
        // the launch: memory of this stream is freed in stream order, a weight synchronizes before
        // it is freed, and the owner of foreign memory promised it. The stream is alive: it is
        // borrowed, or `StreamRef::from_raw` requires it.
        let status = unsafe { sys::w4axk_gemm(&args, stream.as_ptr()) };
        check_gemm(&args, status)
    }

    /// Gathers x to the start of the workspace if the weight has an order of k. Returns the bytes
    /// that it takes there.
    ///
    /// Checks the GEMM first, so that nothing is launched if it has an error.
    fn gather_input(
        &self,
        stream: StreamRef<'_>,
        gemm: &Gemm<'_>,
        args: &sys::w4axk_gemm_args,
        workspace: &Workspace,
    ) -> Result<usize> {
        let Some((x, order)) = gemm.gather() else {
            return Ok(0);
        };
        let (m, k) = gemm.shape();
        let bytes = gathered_bytes(m, k);
        let needed = bytes + LaunchPlan::of(args)?.workspace_bytes;
        if needed > workspace.bytes() {
            return Err(workspace_too_small(needed, workspace.bytes()));
        }
        let (device, address) = (self.ordinal(), workspace.place().address);
        // SAFETY: the first `bytes` bytes of the workspace, which the caller borrows mutably.
        let mut gathered =
            unsafe { DeviceMatMut::from_raw(device, address, m, k, aligned_stride(k)) };
        let pdl = gemm.effective_options()?.pdl();
        self.gather_with_pdl(stream, order, x, &mut gathered, pdl)?;
        Ok(bytes)
    }

    /// The arguments of the GEMM without its workspace. `gathered` is the address of gathered
    /// activations.
    ///
    /// `check_shapes` has passed; M is not 0.
    fn gemm_args(
        &self,
        gemm: &Gemm<'_>,
        y: &DeviceMatMut<'_, bf16>,
        width: LaunchWidth<'_>,
        gathered: CUdeviceptr,
    ) -> Result<sys::w4axk_gemm_args> {
        let (m, k) = gemm.shape();
        let gathers = gemm.gather().is_some();
        let mut options = gemm.effective_options()?;
        let quantized = matches!(gemm.input(), Input::Quantized(..) | Input::Latched(..));
        let x_stride = match gemm.input() {
            _ if gathers => aligned_stride(k),
            Input::Bf16(x) | Input::Gathered(x) | Input::Latched(x, _) => x.stride(),
            Input::Quantized(..) => 0,
        };
        if gathers {
            // The previous launch is the gather of this call, so the GEMM may load weights while it
            // runs.
            options = options.with_pdl(true);
        }
        let x = match gathers {
            true => gathered,
            false => gemm.input_place().address,
        };
        let mut args = sys::w4axk_gemm_args {
            weight: gemm.weight().as_args(),
            x: x as *const _,
            x_stride: stride("row stride of x", x_stride)?,
            y: y.place.address as *mut _,
            y_stride: stride("row stride of y", y.stride())?,
            bias: gemm.bias_vector().map_or(0, |bias| bias.place.address) as *const _,
            m: extent("M", m)?,
            width: width_code(width.width),
            latch: width.state(),
            device: self.number(),
            ..Default::default()
        };
        options.write(quantized, &mut args);
        self.table().fill(&options, &mut args);
        Ok(args)
    }
}
