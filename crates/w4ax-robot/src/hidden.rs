//! The residual stream: what blocks, controllers, adapters and the head read through rms, and add to.
//!
//! Whatever is skipped, this runs; so it is written in loops that become vector instructions, and what several read of one state is computed once.

use half::bf16;

/// The epsilon of rms.
pub const EPS: f32 = 1e-5;

/// The residual stream of some inputs. Nothing is allocated but by [`Hidden::new`] and by clones.
#[derive(Clone, Debug)]
pub struct Hidden {
    d: usize,
    /// `[rows][d]`, of as many rows as there may be.
    x: Vec<f32>,
    /// Of those that there are: `1 / sqrt(mean(x^2) + eps)`, if something has asked for it since x changed.
    scales: Vec<Option<f32>>,
    rows: usize,
}

impl Hidden {
    /// For up to `rows` inputs, at least 1, of width `d`; there are none yet.
    pub fn new(rows: usize, d: usize) -> Self {
        Self {
            d,
            x: vec![0.0; rows * d],
            scales: vec![None; rows],
            rows: 0,
        }
    }

    /// How many inputs there may be.
    pub fn most_rows(&self) -> usize {
        self.scales.len()
    }

    /// How many there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// `[rows][d]`.
    pub fn values(&self) -> &[f32] {
        &self.x[..self.rows * self.d]
    }

    /// Begins with so many inputs: the places of their states, `[rows][d]`.
    ///
    /// # Panics
    /// For more than [`Hidden::most_rows`].
    pub fn begin(&mut self, rows: usize) -> &mut [f32] {
        self.rows = rows;
        self.scales[..rows].fill(None);
        &mut self.x[..rows * self.d]
    }

    /// `x / sqrt(mean(x^2) + eps) * factors` of each row, rounded to BF16.
    pub fn rms(&mut self, factors: &[f32], out: &mut [bf16]) {
        let rows = self.x.chunks(self.d).zip(out.chunks_mut(self.d));
        for ((x, out), known) in rows.zip(&mut self.scales[..self.rows]) {
            let scale = *known.get_or_insert_with(|| {
                let mean = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
                1.0 / (mean + EPS).sqrt()
            });
            let places = out.iter_mut().zip(x).zip(factors);
            // Then all of x is finite, as factors are, and no product is NaN.
            if scale > 0.0 {
                places.for_each(|((out, x), factor)| *out = round(x * scale * factor));
            } else {
                places.for_each(|((out, x), factor)| *out = bf16::from_f32(x * scale * factor));
            }
        }
    }

    /// Adds what a layer gives, `[rows][d]`.
    pub fn add(&mut self, y: &[bf16]) {
        let y = &y[..self.rows * self.d];
        for (x, y) in self.begin(self.rows).iter_mut().zip(y) {
            *x += widen(*y);
        }
    }
}

/// [`bf16::from_f32`] of what is not NaN, which costs that a branch.
fn round(x: f32) -> bf16 {
    let bits = x.to_bits();
    bf16::from_bits(((bits + (0x7FFF + (bits >> 16 & 1))) >> 16) as u16)
}

/// [`bf16::to_f32`], but for the payloads of NaN, which cost that a branch.
pub fn widen(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}
