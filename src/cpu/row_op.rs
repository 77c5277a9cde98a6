//! RMSNorm and `silu(gate) * up` as BF16 rows, and the addition before an RMSNorm.

use super::dispatch::enter;
use super::microkernel::{Arch, Task};
use super::partition::{Disjoint, WorkQueue, run_pieces};
use super::rows::Rows;
use super::{Cpu, check_y};
use crate::numerics::{Element, add_row};
use crate::row_op::Added;
use crate::{AddRmsNorm, HiddenStateMut, MatMut, MatRef, Result, RmsNorm, SiluMul};
use half::bf16;
use std::ops::Range;

/// Elements of a result below which another thread costs more than it saves.
const MIN_ELEMENTS_PER_THREAD: usize = 1 << 15;

impl Cpu {
    /// Computes an RMSNorm `y[M, K]` with the arithmetic of [`crate::numerics`].
    ///
    /// Allocates as [`Cpu::run`].
    ///
    /// ```
    /// use half::bf16;
    /// use w4ax::{MatMut, MatRef, RmsNorm, cpu::Cpu};
    /// # fn main() -> w4ax::Result<()> {
    /// let (x, weight) = ([3f32, -4.0], [bf16::ONE, bf16::from_f32(2.0)]); // [1, 2], [2]
    /// let mut y = [bf16::ZERO; 2]; // [1, 2]
    /// let norm = RmsNorm::new(MatRef::new(&x, 1, 2)?, &weight, 1e-6);
    /// Cpu::new()?.rms_norm(&norm, MatMut::new(&mut y, 1, 2)?)?;
    /// // 3 and -4 divided by the root of their mean square, 12.5.
    /// assert_eq!(y, [0.848_53, -2.262_74].map(bf16::from_f32));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the weight does not have K values or y is not `[M,
    /// K]`, [`Error::Range`](crate::Error::Range) if `eps` is not positive and finite.
    pub fn rms_norm(&self, norm: &RmsNorm<'_>, y: MatMut<'_, bf16>) -> Result<()> {
        self.write_rows(norm, norm.check()?, y)
    }

    /// Adds to a hidden state, and computes an RMSNorm `y[M, K]` of the sum, with the arithmetic of
    /// [`crate::numerics`].
    ///
    /// Allocates as [`Cpu::run`].
    ///
    /// ```
    /// use half::bf16;
    /// use w4ax::{AddRmsNorm, MatMut, MatRef, cpu::Cpu};
    /// # fn main() -> w4ax::Result<()> {
    /// let (mut x, addend) = ([2f32, -4.0], [bf16::ONE, bf16::ZERO]); // [1, 2], [1, 2]
    /// let mut y = [bf16::ZERO; 2]; // [1, 2]
    /// let weight = [bf16::ONE; 2]; // [2]
    /// let (hidden, addend) = (MatMut::new(&mut x, 1, 2)?, MatRef::new(&addend, 1, 2)?);
    /// let norm = AddRmsNorm::new(hidden, addend, &weight, 1e-6);
    /// Cpu::new()?.add_rms_norm(norm, MatMut::new(&mut y, 1, 2)?)?;
    /// assert_eq!(x, [3.0, -4.0]);
    /// // 3 and -4 divided by the root of their mean square, 12.5.
    /// assert_eq!(y, [0.848_53, -1.131_37].map(bf16::from_f32));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the addend or y does not have the shape of x, or
    /// the weight not K values, [`Error::Range`](crate::Error::Range) if `eps` is not positive and
    /// finite. Nothing is written then.
    pub fn add_rms_norm(&self, norm: AddRmsNorm<'_>, y: MatMut<'_, bf16>) -> Result<()> {
        let (m, k) = norm.check()?;
        check_y(&y, [m, k])?;
        self.rms_norm(&self.add(norm).norm(), y)
    }

    /// Adds the addend of a checked operation to its x.
    pub(super) fn add<'a>(&self, norm: AddRmsNorm<'a>) -> Added<'a> {
        norm.added(|x, addend| match x {
            HiddenStateMut::Bf16(x) => self.add_rows(x, addend),
            HiddenStateMut::F32(x) => self.add_rows(x, addend),
        })
    }

    fn add_rows<T: Element>(&self, x: &mut MatMut<'_, T>, addend: MatRef<'_, bf16>) {
        let (m, k, stride) = (x.rows(), x.cols(), x.stride());
        if m == 0 || k == 0 {
            return;
        }
        // SAFETY: `x` is borrowed mutably for the whole call, and its rows span these elements.
        let x = unsafe { std::slice::from_raw_parts_mut(x.as_mut_ptr(), (m - 1) * stride + k) };
        let x = &Disjoint::new(x);
        let pool = self.pool.as_ref();
        let queue = WorkQueue::new(m, pool.threads(), m * k / MIN_ELEMENTS_PER_THREAD);
        run_pieces(pool, queue.pieces, &|_| {
            queue.each(|tokens| {
                let task = AddRows {
                    tokens,
                    k,
                    x,
                    stride,
                    addend,
                };
                enter(self.isa, task);
            });
        });
    }

    /// Computes `y[M, K] = silu(gate) * up` with the arithmetic of [`crate::numerics`].
    ///
    /// Allocates as [`Cpu::run`].
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `up` or y does not have the shape of `gate`.
    pub fn silu_mul(&self, silu: &SiluMul<'_>, y: MatMut<'_, bf16>) -> Result<()> {
        self.write_rows(silu, silu.check()?, y)
    }

    fn write_rows<R: Rows>(
        &self,
        rows: &R,
        (m, k): (usize, usize),
        mut y: MatMut<'_, bf16>,
    ) -> Result<()> {
        check_y(&y, [m, k])?;
        if m == 0 || k == 0 {
            return Ok(());
        }
        let stride = y.stride();
        // SAFETY: `y` is borrowed mutably for the whole call, and its rows span these elements.
        let y = unsafe { std::slice::from_raw_parts_mut(y.as_mut_ptr(), (m - 1) * stride + k) };
        let y = &Disjoint::new(y);
        let pool = self.pool.as_ref();
        let queue = WorkQueue::new(m, pool.threads(), m * k / MIN_ELEMENTS_PER_THREAD);
        run_pieces(pool, queue.pieces, &|_| {
            queue.each(|tokens| {
                let task = WriteRows {
                    rows,
                    tokens,
                    k,
                    y,
                    stride,
                };
                enter(self.isa, task);
            });
        });
        Ok(())
    }
}

struct AddRows<'a, 'x, T> {
    tokens: Range<usize>,
    k: usize,
    /// `[token][k]`, rows `stride` elements apart.
    x: &'a Disjoint<'x, T>,
    stride: usize,
    addend: MatRef<'a, bf16>,
}

impl<T: Element> Task for AddRows<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<A: Arch>(self) {
        for token in self.tokens {
            let start = token * self.stride;
            // SAFETY: one thread writes a token, and no two tokens share a row.
            let x = unsafe { self.x.slice(start..start + self.k) };
            add_row(x, self.addend.row(token));
        }
    }
}

struct WriteRows<'a, 'y, R> {
    rows: &'a R,
    tokens: Range<usize>,
    k: usize,
    /// `[token][k]`, rows `stride` elements apart.
    y: &'a Disjoint<'y, bf16>,
    stride: usize,
}

impl<R: Rows> Task for WriteRows<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<A: Arch>(self) {
        for token in self.tokens {
            let start = token * self.stride;
            // SAFETY: one thread writes a token, and no two tokens share a row.
            let y = unsafe { self.y.slice(start..start + self.k) };
            // A row operation writes its buffer.
            self.rows.row(token, y);
        }
    }
}
