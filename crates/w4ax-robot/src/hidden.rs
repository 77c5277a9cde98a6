//! The residual stream, which blocks, controllers, adapters and the head read through rms and add
//! to.
//!
//! It runs whatever is skipped. Its loops vectorize, and an rms that several layers read is
//! computed once.

use half::bf16;

/// The epsilon of rms.
pub const EPS: f32 = 1e-5;

/// The residual stream of several inputs. Only [`Hidden::new`] and clones allocate.
#[derive(Clone, Debug)]
pub struct Hidden {
    d: usize,
    /// `[most rows, d]`.
    x: Vec<f32>,
    /// `[rows]`: `1 / sqrt(mean(x^2) + eps)`, if it was computed since x changed.
    scales: Vec<Option<f32>>,
    rows: usize,
}

impl Hidden {
    /// Allocates the stream of up to `rows` inputs, at least 1, of width `d`. It has no rows yet.
    pub fn new(rows: usize, d: usize) -> Self {
        Self {
            d,
            x: vec![0.0; rows * d],
            scales: vec![None; rows],
            rows: 0,
        }
    }

    /// Returns the largest number of inputs.
    pub fn most_rows(&self) -> usize {
        self.scales.len()
    }

    /// Returns the number of inputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the stream, `[rows, d]`.
    pub fn values(&self) -> &[f32] {
        &self.x[..self.rows * self.d]
    }

    /// Begins with `rows` inputs. Returns their states, `[rows, d]`, to be filled.
    ///
    /// # Panics
    /// If `rows` is more than [`Hidden::most_rows`].
    pub fn begin(&mut self, rows: usize) -> &mut [f32] {
        self.rows = rows;
        self.scales[..rows].fill(None);
        &mut self.x[..rows * self.d]
    }

    /// Computes `x / sqrt(mean(x^2) + eps) * factors` of each row, rounded to BF16.
    pub fn rms(&mut self, factors: &[f32], out: &mut [bf16]) {
        let rows = self.x.chunks(self.d).zip(out.chunks_mut(self.d));
        for ((x, out), known) in rows.zip(&mut self.scales[..self.rows]) {
            let scale = *known.get_or_insert_with(|| {
                let mean = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
                1.0 / (mean + EPS).sqrt()
            });
            let places = out.iter_mut().zip(x).zip(factors);
            // All of x is finite here, and so are the factors: no product is NaN.
            if scale > 0.0 {
                places.for_each(|((out, x), factor)| *out = round(x * scale * factor));
            } else {
                places.for_each(|((out, x), factor)| *out = bf16::from_f32(x * scale * factor));
            }
        }
    }

    /// Adds the output of a layer, `[rows, d]`.
    pub fn add(&mut self, y: &[bf16]) {
        let y = &y[..self.rows * self.d];
        for (x, y) in self.begin(self.rows).iter_mut().zip(y) {
            *x += widen(*y);
        }
    }
}

/// [`bf16::from_f32`] of a value that is not NaN: without its branch.
fn round(x: f32) -> bf16 {
    let bits = x.to_bits();
    bf16::from_bits(((bits + (0x7FFF + (bits >> 16 & 1))) >> 16) as u16)
}

/// [`bf16::to_f32`] except for NaN payloads: without its branch.
pub fn widen(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}
