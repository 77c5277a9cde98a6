//! Packed weights: quantized or packed, described, unpacked.

use std::ffi::c_void;
use std::sync::Arc;

use half::{bf16, f16};

use super::raw::{self, Extent};
use super::status::{Result, Status, entry};
use super::threads::with_threads;
use super::types;
use w4ax::{MatRef, PackedWeight, Quantize, ScaleType, Scales};

/// `w4ax_weight`: one reference to a weight that never changes.
pub struct Weight(pub(super) Arc<PackedWeight>);

impl Weight {
    fn new(weight: PackedWeight) -> Self {
        Self(Arc::new(weight))
    }
}

/// `w4ax_quantize_args`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct QuantizeArgs {
    pub w: *const c_void,
    pub w_len: usize,
    pub w_stride: usize,
    pub n: usize,
    pub k: usize,
    pub w_type: u32,
    pub grouping: u32,
    pub symmetry: u32,
    pub scale_type: u32,
    pub threads: u32,
    pub reserved: u32,
}

/// `w4ax_pack_args`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PackArgs {
    pub q: *const i8,
    pub q_len: usize,
    pub q_stride: usize,
    pub scales: *const c_void,
    pub scales_len: usize,
    pub zeros: *const i8,
    pub zeros_len: usize,
    pub n: usize,
    pub k: usize,
    pub grouping: u32,
    pub scale_type: u32,
    pub threads: u32,
    pub reserved: u32,
}

/// `w4ax_weight_info`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct WeightInfo {
    pub n: usize,
    pub k: usize,
    pub groups: usize,
    pub bytes: usize,
    pub grouping: u32,
    pub symmetry: u32,
    pub scale_type: u32,
    pub reserved: u32,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_weight_quantize(
    args: *const QuantizeArgs,
    weight: *mut *mut Weight,
) -> Status {
    entry(|| {
        let make = || {
            // SAFETY: the contract of this function.
            let args = unsafe { raw::arguments("args", args)? };
            raw::reserved(args.reserved)?;
            let quantize = Quantize {
                grouping: types::grouping(args.grouping)?,
                symmetry: types::symmetry(args.symmetry)?,
                scale_type: types::scale_type(args.scale_type)?,
            };
            let extent = Extent {
                len: args.w_len,
                rows: args.n,
                cols: args.k,
                stride: args.w_stride,
            };
            fn pack<T: Copy + Into<f32> + Sync>(
                quantize: Quantize,
                threads: u32,
                w: MatRef<'_, T>,
            ) -> Result<Weight> {
                let packed = with_threads(threads, || quantize.pack(w))??;
                Ok(Weight::new(packed))
            }
            // SAFETY: the contract of this function.
            unsafe {
                match types::scale_type(args.w_type)? {
                    ScaleType::F32 => {
                        let w = raw::matrix::<f32>("w", args.w.cast(), extent)?;
                        pack(quantize, args.threads, w)
                    }
                    ScaleType::F16 => {
                        let w = raw::matrix::<f16>("w", args.w.cast(), extent)?;
                        pack(quantize, args.threads, w)
                    }
                    ScaleType::Bf16 => {
                        let w = raw::matrix::<bf16>("w", args.w.cast(), extent)?;
                        pack(quantize, args.threads, w)
                    }
                }
            }
        };
        // SAFETY: the contract of this function.
        unsafe { raw::create("weight", weight, make) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_weight_pack(
    args: *const PackArgs,
    weight: *mut *mut Weight,
) -> Status {
    entry(|| {
        let make = || {
            // SAFETY: the contract of this function.
            let args = unsafe { raw::arguments("args", args)? };
            raw::reserved(args.reserved)?;
            let grouping = types::grouping(args.grouping)?;
            let scale_type = types::scale_type(args.scale_type)?;
            let extent = Extent {
                len: args.q_len,
                rows: args.n,
                cols: args.k,
                stride: args.q_stride,
            };
            // SAFETY: the contract of this function.
            let (q, scales, zeros) = unsafe {
                (
                    raw::matrix("q", args.q, extent)?,
                    scales(scale_type, args.scales, args.scales_len)?,
                    raw::slice("zeros", args.zeros, args.zeros_len)?,
                )
            };
            let zeros = wanted(args.zeros, args.zeros_len).then_some(zeros);
            let pack = || PackedWeight::from_quantized(q, grouping, &scales, zeros);
            Ok(Weight::new(with_threads(args.threads, pack)??))
        };
        // SAFETY: the contract of this function.
        unsafe { raw::create("weight", weight, make) }
    })
}

/// # Safety
/// As [`raw::slice`], for elements of the type.
unsafe fn scales(scale_type: ScaleType, pointer: *const c_void, len: usize) -> Result<Scales> {
    // SAFETY: passed on.
    Ok(unsafe {
        match scale_type {
            ScaleType::F32 => Scales::F32(raw::slice("scales", pointer.cast(), len)?.to_vec()),
            ScaleType::F16 => Scales::F16(raw::slice("scales", pointer.cast(), len)?.to_vec()),
            ScaleType::Bf16 => Scales::Bf16(raw::slice("scales", pointer.cast(), len)?.to_vec()),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_weight_free(weight: *mut Weight) {
    entry(|| {
        // SAFETY: the contract of this function.
        unsafe { raw::free(weight) };
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_weight_get_info(
    weight: *const Weight,
    info: *mut WeightInfo,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (w, info) = unsafe {
            (
                &raw::handle("weight", weight)?.0,
                raw::output("info", info)?,
            )
        };
        info.write(WeightInfo {
            n: w.n(),
            k: w.k(),
            groups: w.groups(),
            bytes: w.packed_bytes(),
            grouping: types::grouping_code(w.grouping()),
            symmetry: match w.is_symmetric() {
                true => types::SYMMETRIC,
                false => types::ASYMMETRIC,
            },
            scale_type: types::scale_type_code(w.tiled_scales().scale_type()),
            reserved: 0,
        });
        Ok(())
    })
}

/// Whether an optional buffer is given.
fn wanted<T>(pointer: *const T, len: usize) -> bool {
    !pointer.is_null() || len > 0
}

/// A buffer must hold `needed` elements at least.
fn room(what: &'static str, needed: usize, got: usize) -> Result<()> {
    if got < needed {
        return Err(raw::too_small(what, needed, got));
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_weight_dequantize(
    weight: *const Weight,
    w: *mut f32,
    w_len: usize,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (weight, w) = unsafe {
            (
                &raw::handle("weight", weight)?.0,
                raw::slice_mut("w", w, w_len)?,
            )
        };
        let values = weight.dequantize();
        room("w", values.len(), w.len())?;
        w[..values.len()].copy_from_slice(&values);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_weight_unpack(
    weight: *const Weight,
    q: *mut i8,
    q_len: usize,
    scales: *mut c_void,
    scales_len: usize,
    zeros: *mut i8,
    zeros_len: usize,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let weight = unsafe { &raw::handle("weight", weight)?.0 };
        let (n, groups) = (weight.n(), weight.groups());
        // Everything is checked before anything is written.
        // SAFETY: the contract of this function.
        let (q, zeros) = unsafe {
            (
                wanted(q, q_len)
                    .then(|| raw::slice_mut("q", q, q_len))
                    .transpose()?,
                wanted(zeros, zeros_len)
                    .then(|| raw::slice_mut("zeros", zeros, zeros_len))
                    .transpose()?,
            )
        };
        if let Some(q) = &q {
            room("q", n * weight.k(), q.len())?;
        }
        if let Some(zeros) = &zeros {
            room("zeros", n * groups, zeros.len())?;
        }
        if wanted(scales, scales_len) {
            room("scales", n * groups, scales_len)?;
            let values = (0..n * groups).map(|i| weight.scale(i / groups, i % groups));
            // SAFETY: the contract of this function. Each value is one of the stored type, so narrowing is exact.
            unsafe {
                match weight.tiled_scales().scale_type() {
                    ScaleType::F32 => write_scales(scales, scales_len, values)?,
                    ScaleType::F16 => write_scales(scales, scales_len, values.map(f16::from_f32))?,
                    ScaleType::Bf16 => {
                        write_scales(scales, scales_len, values.map(bf16::from_f32))?
                    }
                }
            }
        }
        if let Some(zeros) = zeros {
            for (i, zero) in zeros[..n * groups].iter_mut().enumerate() {
                *zero = weight.zero(i / groups, i % groups);
            }
        }
        if let Some(q) = q {
            q[..n * weight.k()].copy_from_slice(&weight.unpack());
        }
        Ok(())
    })
}

/// # Safety
/// As [`raw::slice_mut`].
unsafe fn write_scales<T: bytemuck::Pod>(
    pointer: *mut c_void,
    len: usize,
    values: impl Iterator<Item = T>,
) -> Result<()> {
    // SAFETY: passed on.
    let to = unsafe { raw::slice_mut("scales", pointer.cast::<T>(), len)? };
    to.iter_mut().zip(values).for_each(|(to, v)| *to = v);
    Ok(())
}
