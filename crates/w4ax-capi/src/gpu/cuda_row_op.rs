//! The row operations of a build with feature `cuda`.

use std::ffi::c_void;

use half::bf16;
use w4ax::Width;
use w4ax::cuda::{
    ActivationLayout, AddRmsNorm, DeviceMatMut, DeviceMatRef, DeviceVecRef, QuantizedActivations,
    RmsNorm, SiluMul,
};

use crate::status::Result;

use super::cuda::{Device, layout};
use super::{RowOpCall, RowOperation};

impl Device {
    /// # Safety
    /// As [`Self::gemm`].
    pub unsafe fn row_op(&self, call: &RowOpCall, stream: *mut c_void) -> Result<()> {
        let &RowOpCall { m, k, width, .. } = call;
        let (gpu, device) = (&self.gpu, self.gpu.ordinal());
        let how = ActivationLayout::new(call.grouping).with_operand(layout(call.family)?);
        let address = call.output.device_address();
        // SAFETY: the contract of this function. The output overlaps no input, as the entry point
        // has checked; only one of the two views of it is written.
        let (stream, mut y, mut quantized) = unsafe {
            (
                self.stream(stream),
                DeviceMatMut::from_raw(device, address, m, k, call.y_stride),
                QuantizedActivations::from_raw(device, address, call.output.len),
            )
        };
        let rows = width == Width::Bf16;
        match call.operation {
            RowOperation::RmsNorm {
                x,
                x_stride,
                is_f32,
                addend: Some((addend, addend_stride)),
                norm,
                eps,
            } => {
                // SAFETY: as above. x overlaps nothing else, as the entry point has checked; only
                // one of the two views of it is written.
                let (weight, addend, mut narrow, mut wide) = unsafe {
                    (
                        DeviceVecRef::from_raw(device, norm as _, k),
                        DeviceMatRef::from_raw(device, addend as _, m, k, addend_stride),
                        DeviceMatMut::<bf16>::from_raw(device, x as _, m, k, x_stride),
                        DeviceMatMut::<f32>::from_raw(device, x as _, m, k, x_stride),
                    )
                };
                let norm = match is_f32 {
                    true => AddRmsNorm::new(&mut wide, &addend, &weight, eps),
                    false => AddRmsNorm::new(&mut narrow, &addend, &weight, eps),
                };
                let norm = norm.with_pdl(call.pdl);
                match rows {
                    true => gpu.add_rms_norm(stream, norm, &mut y)?,
                    false => {
                        gpu.add_rms_norm_quantize(stream, norm, width, how, &mut quantized, None)?;
                    }
                }
            }
            RowOperation::RmsNorm {
                x,
                x_stride,
                is_f32,
                addend: None,
                norm,
                eps,
            } => {
                // SAFETY: as above.
                let (weight, narrow, wide) = unsafe {
                    (
                        DeviceVecRef::from_raw(device, norm as _, k),
                        DeviceMatRef::<bf16>::from_raw(device, x as _, m, k, x_stride),
                        DeviceMatRef::<f32>::from_raw(device, x as _, m, k, x_stride),
                    )
                };
                let norm = match is_f32 {
                    true => RmsNorm::new(&wide, &weight, eps),
                    false => RmsNorm::new(&narrow, &weight, eps),
                };
                let norm = norm.with_pdl(call.pdl);
                match rows {
                    true => gpu.rms_norm(stream, &norm, &mut y)?,
                    false => {
                        gpu.rms_norm_quantize(stream, &norm, width, how, &mut quantized, None)?;
                    }
                }
            }
            RowOperation::SiluMul {
                gate,
                gate_stride,
                up,
                up_stride,
            } => {
                // SAFETY: as above.
                let (gate, up) = unsafe {
                    (
                        DeviceMatRef::from_raw(device, gate as _, m, k, gate_stride),
                        DeviceMatRef::from_raw(device, up as _, m, k, up_stride),
                    )
                };
                let silu = SiluMul::new(&gate, &up).with_pdl(call.pdl);
                match rows {
                    true => gpu.silu_mul(stream, &silu, &mut y)?,
                    false => {
                        gpu.silu_mul_quantize(stream, &silu, width, how, &mut quantized, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}
