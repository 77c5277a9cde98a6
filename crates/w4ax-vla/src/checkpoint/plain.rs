//! Plain tensors as tensors of candle, and their quantization.

use super::StoredWeight;
use super::source::check_shape;
use crate::{Result, VlaError};
use candle_core::{CpuStorage, Device, Storage, Tensor};
use half::{bf16, f16};
use w4ax::tensors::{PlainTensor, PlainValues};
use w4ax::{Error, MatRef, PackedWeight, Quantize};

/// Converts a tensor of this shape. BF16 and F32 keep their type and their memory, F16 is widened
/// to F32. `file` is the name in errors.
pub(super) fn tensor_of(
    plain: PlainTensor,
    file: impl Fn() -> String,
    name: &str,
    shape: &[usize],
) -> Result<Tensor> {
    check_shape(&file, name, Some(plain.shape), shape)?;
    let cpu = &Device::Cpu;
    Ok(match plain.values {
        PlainValues::Bf16(values) => Tensor::from_vec(values, shape, cpu)?,
        PlainValues::F32(values) => Tensor::from_vec(values, shape, cpu)?,
        PlainValues::F16(values) => {
            let wide: Vec<f32> = values.into_iter().map(f16::to_f32).collect();
            Tensor::from_vec(wide, shape, cpu)?
        }
        PlainValues::Other(dtype, _) => return Err(other_type(file(), name, dtype)),
        _ => return Err(other_type(file(), name, "of another kind")),
    })
}

fn other_type(file: String, name: &str, got: impl std::fmt::Debug) -> VlaError {
    VlaError::TensorType {
        file,
        name: name.into(),
        got: format!("{got:?}"),
        expected: "BF16, F16 or F32",
    }
}

/// Quantizes the weight of `module` unless it is packed already.
///
/// A loader packs each weight as it reads it, so that at most one weight is in memory unquantized.
///
/// # Errors
/// As [`Quantize::pack`], with the name of the module.
pub fn pack(module: &str, weight: StoredWeight, quantize: &Quantize) -> Result<PackedWeight> {
    let plain = match weight {
        StoredWeight::Packed(weight) => return Ok(weight),
        StoredWeight::Plain(plain) => plain.contiguous()?,
    };
    let (n, k) = plain.dims2()?;
    let (storage, layout) = plain.storage_and_layout();
    let at = layout.start_offset()..layout.start_offset() + n * k;
    let packed = match &*storage {
        Storage::Cpu(CpuStorage::BF16(values)) => {
            MatRef::<bf16>::new(&values[at], n, k).and_then(|w| quantize.pack(w))
        }
        Storage::Cpu(CpuStorage::F32(values)) => {
            MatRef::<f32>::new(&values[at], n, k).and_then(|w| quantize.pack(w))
        }
        _ => {
            let got = format!("{:?} on {:?}", plain.dtype(), plain.device());
            return Err(VlaError::TensorType {
                file: "weight".into(),
                name: module.into(),
                got,
                expected: "BF16 or F32 on the CPU",
            });
        }
    };
    packed.map_err(|error| {
        VlaError::W4ax(Error::Tensor {
            file: "weight".into(),
            tensor: module.into(),
            reason: error.to_string(),
        })
    })
}
