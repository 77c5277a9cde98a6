//! Orders of k, and the gather of activations into one.

use std::sync::Arc;

use half::bf16;

use super::raw::{self, Extent};
use super::status::{Result, Status, entry};
use w4ax::KOrder;

/// `w4ax_order`: one reference to an order that never changes.
pub struct Order(pub(super) Arc<KOrder>);

/// `w4ax_gather_args`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GatherArgs {
    pub x: *const bf16,
    pub x_len: usize,
    pub x_stride: usize,
    pub gathered: *mut bf16,
    pub gathered_len: usize,
    pub gathered_stride: usize,
    pub m: usize,
    pub k: usize,
}

impl GatherArgs {
    /// x and gathered x.
    fn extents(&self) -> (Extent, Extent) {
        let of = |len, stride| Extent {
            len,
            rows: self.m,
            cols: self.k,
            stride,
        };
        (
            of(self.x_len, self.x_stride),
            of(self.gathered_len, self.gathered_stride),
        )
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_order_create(
    ks: *const u32,
    k: usize,
    order: *mut *mut Order,
) -> Status {
    entry(|| {
        let make = || {
            // SAFETY: the contract of this function.
            let ks = unsafe { raw::slice("ks", ks, k)? };
            Ok(Order(Arc::new(KOrder::new(ks.to_vec())?)))
        };
        // SAFETY: the contract of this function.
        unsafe { raw::create("order", order, make) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_order_k(order: *const Order, k: *mut usize) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (order, k) = unsafe { (raw::handle("order", order)?, raw::output("k", k)?) };
        k.write(order.0.as_slice().len());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_order_get(order: *const Order, ks: *mut u32, k: usize) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (order, ks) = unsafe {
            (
                raw::handle("order", order)?.0.as_slice(),
                raw::slice_mut("ks", ks, k)?,
            )
        };
        if ks.len() < order.len() {
            return Err(raw::too_small("ks", order.len(), ks.len()));
        }
        ks[..order.len()].copy_from_slice(order);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_order_gather(order: *const Order, args: *const GatherArgs) -> Status {
    entry(|| -> Result<()> {
        // SAFETY: the contract of this function.
        let args = unsafe { raw::arguments("args", args)? };
        let (x, gathered) = args.extents();
        // Before there are references: two that overlap, one of them mutable, must not be.
        raw::disjoint(
            "gathered and x",
            &raw::addresses("gathered", args.gathered, gathered)?,
            &raw::addresses("x", args.x, x)?,
        )?;
        // SAFETY: the contract of this function; gathered does not overlap x.
        let (order, x, gathered) = unsafe {
            (
                raw::handle("order", order)?,
                raw::matrix("x", args.x, x)?,
                raw::matrix_mut("gathered", args.gathered, gathered)?,
            )
        };
        Ok(order.0.gather(x, gathered)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_order_free(order: *mut Order) {
    entry(|| {
        // SAFETY: the contract of this function.
        unsafe { raw::free(order) };
        Ok(())
    });
}
