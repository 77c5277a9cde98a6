//! Packed weights: made from plain or INT4 values, described, unpacked.

use std::ffi::c_void;
use std::sync::Arc;

use half::{bf16, f16};
use w4ax::{
    Clipping, Grouping, KOrder, MatMut, MatRef, PackedWeight, Quantize, ScaleType, Scales, Scheme,
    Symmetry,
};

use super::enums::{self, CEnum};
use super::raw::{self, Matrix};
use super::status::{Failure, Result, Status, entry_points, free_functions};
use super::threads::with_threads;

/// `w4ax_weight`: one reference to an immutable weight.
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
    pub order: *const u32,
    pub order_len: usize,
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
    pub has_order: u32,
}

/// Returns the number of a symmetry in C.
pub(super) fn symmetry_number(symmetric: bool) -> u32 {
    match symmetric {
        true => Symmetry::Symmetric.number(),
        false => Symmetry::Asymmetric.number(),
    }
}

/// Quantizes a matrix of one element type.
///
/// # Safety
/// As [`Matrix::get`].
unsafe fn quantize<T: bytemuck::Pod + Into<f32> + Sync>(
    quantize: Quantize,
    args: &QuantizeArgs,
) -> Result<Weight> {
    let buffer = (args.w.cast::<T>(), args.w_len);
    let w = Matrix::new("w", buffer, [args.n, args.k], args.w_stride);
    // SAFETY: passed on.
    let w = unsafe { w.get()? };
    Ok(Weight::new(with_threads(args.threads, || {
        quantize.pack(w)
    })??))
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

/// Quantizes a matrix of any element type.
///
/// # Safety
/// As [`raw::arguments`] and [`quantize`].
unsafe fn quantize_as(
    args: *const QuantizeArgs,
    scheme: Scheme,
    clipping: Clipping,
) -> Result<Weight> {
    // SAFETY: passed on.
    unsafe {
        let args = raw::arguments("args", args)?;
        enums::reserved(args.reserved)?;
        let options = Quantize::new(enums::value(args.grouping)?)
            .with_symmetry(enums::value(args.symmetry)?)
            .with_scale_type(enums::value(args.scale_type)?)
            .with_scheme(scheme)
            .with_clipping(clipping);
        match enums::value(args.w_type)? {
            ScaleType::F32 => quantize::<f32>(options, &args),
            ScaleType::F16 => quantize::<f16>(options, &args),
            ScaleType::Bf16 => quantize::<bf16>(options, &args),
        }
    }
}

/// Packs INT4 values, as a two-level weight if there are steps. With an order, gathers the inputs
/// of each row into it first.
fn pack(
    q: MatRef<'_, i8>,
    grouping: Grouping,
    (steps, scales, zeros): (Option<&[u8]>, &Scales, Option<&[i8]>),
    order: Option<&[u32]>,
) -> w4ax::Result<PackedWeight> {
    let packed = |q| match steps {
        None => PackedWeight::from_quantized(q, grouping, scales, zeros),
        Some(steps) => PackedWeight::from_two_level(q, grouping, steps, scales, zeros),
    };
    let Some(order) = order else {
        return packed(q);
    };
    let order = KOrder::new(order.to_vec())?;
    let mut gathered = vec![0; q.rows() * q.cols()]; // [n, k]
    order.gather(q, MatMut::new(&mut gathered, q.rows(), q.cols())?)?;
    packed(MatRef::new(&gathered, q.rows(), q.cols())?)?.with_order(order)
}

/// Packs the values of the arguments.
///
/// # Safety
/// As [`raw::arguments`] and [`raw::slice`].
unsafe fn pack_args(args: *const PackArgs, steps: Option<&[u8]>) -> Result<Weight> {
    // SAFETY: passed on.
    unsafe {
        let args = raw::arguments("args", args)?;
        enums::reserved(args.reserved)?;
        let grouping = enums::value(args.grouping)?;
        let scale_type = enums::value(args.scale_type)?;
        let q = Matrix::new("q", (args.q, args.q_len), [args.n, args.k], args.q_stride);
        let q = q.get()?;
        let scales = scales(scale_type, args.scales, args.scales_len)?;
        let zeros = raw::optional_slice("zeros", args.zeros, args.zeros_len)?;
        let order = raw::optional_slice("order", args.order, args.order_len)?;
        let pack = || pack(q, grouping, (steps, &scales, zeros), order);
        Ok(Weight::new(with_threads(args.threads, pack)??))
    }
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

/// Writes the values of a weight. Everything is checked before anything is written.
///
/// # Safety
/// As [`raw::slice_mut`].
unsafe fn unpack(
    weight: &PackedWeight,
    (q, q_len): (*mut i8, usize),
    (scales, scales_len): (*mut c_void, usize),
    (zeros, zeros_len): (*mut i8, usize),
    steps: Option<&mut [u8]>,
) -> Result<()> {
    let (n, groups) = (weight.n(), weight.groups());
    let scale_groups = match weight.scheme() {
        Scheme::TwoLevel => 1,
        _ => groups,
    };
    // SAFETY: passed on.
    unsafe {
        let q = raw::optional_slice_mut("q", q, q_len)?;
        let zeros = raw::optional_slice_mut("zeros", zeros, zeros_len)?;
        if let Some(q) = &q {
            raw::at_least("q", n * weight.k(), q.len())?;
        }
        if let Some(zeros) = &zeros {
            raw::at_least("zeros", n * groups, zeros.len())?;
        }
        if let Some(steps) = &steps {
            raw::at_least("steps", n * groups, steps.len())?;
        }
        if raw::given(scales, scales_len) {
            raw::at_least("scales", n * scale_groups, scales_len)?;
            let values =
                (0..n * scale_groups).map(|i| weight.scale(i / scale_groups, i % scale_groups));
            // Each value is one of the stored type, so the conversion is exact.
            match weight.tiled_scales().scale_type() {
                ScaleType::F32 => write_scales(scales, scales_len, values)?,
                ScaleType::F16 => write_scales(scales, scales_len, values.map(f16::from_f32))?,
                ScaleType::Bf16 => write_scales(scales, scales_len, values.map(bf16::from_f32))?,
            }
        }
        if let Some(zeros) = zeros {
            for (i, zero) in zeros[..n * groups].iter_mut().enumerate() {
                *zero = weight.zero(i / groups, i % groups);
            }
        }
        if let Some(steps) = steps {
            for (i, step) in steps[..n * groups].iter_mut().enumerate() {
                *step = weight.step(i / groups, i % groups);
            }
        }
        if let Some(q) = q {
            q[..n * weight.k()].copy_from_slice(&weight.unpack());
        }
    }
    Ok(())
}

entry_points! {
    fn w4ax_weight_quantize(args: *const QuantizeArgs, weight: *mut *mut Weight) {
        raw::create("weight", weight, || {
            quantize_as(args, Scheme::Grouped, Clipping::AbsMax)
        })
    }

    fn w4ax_weight_quantize_as(
        args: *const QuantizeArgs,
        scheme: u32,
        clipping: u32,
        weight: *mut *mut Weight,
    ) {
        raw::create("weight", weight, || {
            quantize_as(args, enums::value(scheme)?, enums::value(clipping)?)
        })
    }

    fn w4ax_weight_pack(args: *const PackArgs, weight: *mut *mut Weight) {
        raw::create("weight", weight, || pack_args(args, None))
    }

    fn w4ax_weight_pack_two_level(
        args: *const PackArgs,
        steps: *const u8,
        steps_len: usize,
        weight: *mut *mut Weight,
    ) {
        raw::create("weight", weight, || {
            pack_args(args, Some(raw::slice("steps", steps, steps_len)?))
        })
    }

    fn w4ax_weight_get_info(weight: *const Weight, info: *mut WeightInfo) {
        let w = &raw::handle("weight", weight)?.0;
        let info = raw::output("info", info)?;
        info.write(WeightInfo {
            n: w.n(),
            k: w.k(),
            groups: w.groups(),
            bytes: w.packed_bytes(),
            grouping: w.grouping().number(),
            symmetry: symmetry_number(w.is_symmetric()),
            scale_type: w.tiled_scales().scale_type().number(),
            has_order: w.order().is_some().into(),
        });
        Ok(())
    }

    fn w4ax_weight_get_scheme(weight: *const Weight, scheme: *mut u32) {
        let weight = &raw::handle("weight", weight)?.0;
        raw::output("scheme", scheme)?.write(weight.scheme().number());
        Ok(())
    }

    fn w4ax_weight_get_order(weight: *const Weight, order: *mut u32, order_len: usize) {
        let weight = &raw::handle("weight", weight)?.0;
        let to = raw::slice_mut("order", order, order_len)?;
        raw::at_least("order", weight.k(), to.len())?;
        match weight.order() {
            Some(order) => to[..weight.k()].copy_from_slice(order.as_slice()),
            None => to.iter_mut().zip(0..weight.k() as u32).for_each(|(to, k)| *to = k),
        }
        Ok(())
    }

    fn w4ax_weight_dequantize(weight: *const Weight, w: *mut f32, w_len: usize) {
        let weight = &raw::handle("weight", weight)?.0;
        let w = raw::slice_mut("w", w, w_len)?;
        let values = weight.dequantize();
        raw::at_least("w", values.len(), w.len())?;
        w[..values.len()].copy_from_slice(&values);
        Ok(())
    }

    fn w4ax_weight_unpack(
        weight: *const Weight,
        q: *mut i8,
        q_len: usize,
        scales: *mut c_void,
        scales_len: usize,
        zeros: *mut i8,
        zeros_len: usize,
    ) {
        let weight = &raw::handle("weight", weight)?.0;
        // The arguments have no place for the steps of a two-level weight.
        weight.scheme().check_grouped("w4ax_weight_unpack")?;
        unpack(weight, (q, q_len), (scales, scales_len), (zeros, zeros_len), None)
    }

    fn w4ax_weight_unpack_two_level(
        weight: *const Weight,
        q: *mut i8,
        q_len: usize,
        scales: *mut c_void,
        scales_len: usize,
        zeros: *mut i8,
        zeros_len: usize,
        steps: *mut u8,
        steps_len: usize,
    ) {
        let weight = &raw::handle("weight", weight)?.0;
        if weight.scheme() != Scheme::TwoLevel {
            let text = "a grouped weight has no steps: use w4ax_weight_unpack";
            return Err(Failure::new(Status::NoBackend, text));
        }
        let steps = raw::optional_slice_mut("steps", steps, steps_len)?;
        unpack(weight, (q, q_len), (scales, scales_len), (zeros, zeros_len), steps)
    }
}

free_functions! {
    w4ax_weight_free(weight: Weight);
}
