//! The launch that quantizes activations for several GEMMs.

use super::activations::{ActivationLayout, Contents, QuantizedActivations};
use super::limits::{extent, stride};
use super::options::pdl_flag;
use super::width::LaunchWidth;
use crate::cuda::Gpu;
use crate::cuda::memory::{DeviceMatRef, StreamRef};
use crate::cuda::sys::enums::{grouping_code, width_code};
use crate::cuda::sys::{self, status};
use crate::{Result, Width, WidthSource};
use half::bf16;

impl Gpu {
    /// Quantizes `x[M, K]` for every GEMM that reads it with this width and layout, such as those
    /// of q, k and v.
    ///
    /// The layout can be a [`Grouping`](crate::Grouping), for decode and prefill, or an
    /// [`ActivationLayout`]. At a latched width of 16 bits, nothing is written. The launch
    /// allocates nothing, does not synchronize, and can be captured.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) for BF16 or an empty x,
    /// [`Error::Buffer`](crate::Error::Buffer) if `activations` is too small,
    /// [`Error::DeviceMismatch`](crate::Error::DeviceMismatch) for an argument of another device or
    /// stream, [`Error::Cuda`](crate::Error::Cuda) if the launch fails.
    pub fn quantize<'s, 'w>(
        &self,
        stream: impl Into<StreamRef<'s>>,
        x: &DeviceMatRef<'_, bf16>,
        width: impl Into<WidthSource<'w>>,
        layout: impl Into<ActivationLayout>,
        activations: &mut QuantizedActivations,
    ) -> Result<()> {
        let (stream, layout) = (stream.into(), layout.into());
        let width = LaunchWidth::read(width.into());
        self.check_stream(stream)?;
        x.place.check("x", stream)?;
        activations.place().check("quantized activations", stream)?;
        width.check(stream)?;
        let (m, k) = (x.rows(), x.cols());
        let operand = layout.operand();
        // A latch may hold a width of up to 8 bits.
        activations.check_size((m, k), width.width.unwrap_or(Width::A8), layout)?;
        let args = sys::w4axk_quantize_args {
            x: x.place.address as *const _,
            x_stride: stride("row stride of x", x.stride())?,
            packed: activations.place().address as *mut _,
            packed_bytes: activations.bytes() as u64,
            m: extent("M", m)?,
            k: extent("K", k)?,
            width: width_code(width.width),
            latch: width.state(),
            group: grouping_code(layout.grouping()),
            family: operand.code(),
            flags: pdl_flag(layout.pdl()),
            device: self.number(),
            reserved: 0,
        };
        activations.set_contents(None);
        // SAFETY: as in `Gpu::run`: x and the activations are memory of this device, are large
        // enough, and outlive the launch. The stream is alive.
        let status = unsafe { sys::w4axk_quantize_pack(&args, stream.as_ptr()) };
        status::check("quantize_pack", status)?;
        activations.set_contents(Some(Contents {
            m,
            k,
            width: width.width,
            latch: width.latch_address(),
            layout,
        }));
        Ok(())
    }
}
