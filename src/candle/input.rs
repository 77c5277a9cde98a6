//! Inputs of layers that a row operation computes, quantized once.

use super::device::{BackendDevice, CpuDevice, DeviceLayer};
use super::linear::Linear;
use super::rows::Rows;
use crate::cpu::{ActivationLayout, Cpu, QuantizedActivations};
use crate::{AddRmsNorm, HiddenState, HiddenStateMut, MatMut, MatRef, RmsNorm, SiluMul, Width};
use candle_core::{DType, Device, Result, Storage, Tensor, WithDType};
use half::bf16;
use std::sync::Arc;

/// An input `[.., K]` of 2, 4 or 8 bits, quantized once for the layers that read it, such as q, k
/// and v. Its memory returns to the backend when it is dropped.
#[derive(Debug)]
pub struct QuantizedInput {
    device: Arc<BackendDevice>,
    /// `None` only while it is dropped.
    activations: Option<QuantizedActivations>,
    /// The dimensions of the rows, without K.
    outer: Vec<usize>,
}

impl Drop for QuantizedInput {
    fn drop(&mut self) {
        #[allow(irrefutable_let_patterns)]
        // The enum has more variants with feature `candle-cuda`.
        if let (Some(activations), BackendDevice::Cpu(device)) =
            (self.activations.take(), &*self.device)
        {
            device.return_activations(activations);
        }
    }
}

/// Calls `f` with the rows `[M, k]` of a tensor on the CPU.
fn with_rows<T: WithDType, R>(
    x: &Tensor,
    k: usize,
    f: impl FnOnce(MatRef<'_, T>) -> Result<R>,
) -> Result<R> {
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        candle_core::bail!("expected a tensor on the CPU")
    };
    let (rows, values) = (Rows::of(layout, k)?, storage.as_slice::<T>()?);
    let rows = MatRef::with_stride(&values[rows.start..], rows.rows, k, rows.stride)?;
    f(rows)
}

/// Calls `f` with the weight `[k]` of an RMSNorm.
fn with_norm<R>(weight: &Tensor, k: usize, f: impl FnOnce(&[bf16]) -> Result<R>) -> Result<R> {
    with_rows(weight, k, |weight: MatRef<'_, bf16>| match weight.rows() {
        1 => f(weight.row(0)),
        _ => candle_core::bail!("weight of an RMSNorm: expected [{k}]"),
    })
}

impl Linear {
    /// Returns whether this layer and `other` can read one [`QuantizedInput`]: both are on the CPU,
    /// and their weights have the same arithmetic, groups and number of inputs, and no order of k.
    pub fn shares_input(&self, other: &Self) -> bool {
        match (self.input_layout(), other.input_layout()) {
            (Some((device, layout)), Some((other_device, other_layout))) => {
                layout == other_layout
                    && self.k() == other.k()
                    && std::ptr::eq(device, other_device)
            }
            _ => false,
        }
    }

    /// Computes `x / sqrt(mean(x^2) + eps) * weight` of the rows of `x[.., K]`, F32 or BF16, and
    /// quantizes it at `width` for this layer and those that share its input. `weight` is `[K]` in
    /// BF16.
    ///
    /// The result is that of [`RmsNorm`](crate::RmsNorm): a layer returns the bits that it returns
    /// for the BF16 rows.
    ///
    /// # Errors
    /// - If the layer does not [share its input](Self::shares_input) with itself.
    /// - If x is neither F32 nor BF16, or its last dimension is not K or not contiguous.
    /// - As [`Cpu::rms_norm_quantize`](crate::cpu::Cpu::rms_norm_quantize).
    pub fn rms_norm_quantize(
        &self,
        x: &Tensor,
        weight: &Tensor,
        eps: f64,
        width: Width,
    ) -> Result<QuantizedInput> {
        let k = self.k();
        with_norm(weight, k, |weight| {
            let run = |hidden: HiddenState<'_>| {
                let norm = RmsNorm::new(hidden, weight, eps as f32);
                self.quantized(x, |cpu, layout, activations| {
                    cpu.rms_norm_quantize(&norm, width, layout, activations)
                })
            };
            match x.dtype() {
                DType::F32 => with_rows(x, k, |x: MatRef<'_, f32>| run(x.into())),
                _ => with_rows(x, k, |x: MatRef<'_, bf16>| run(x.into())),
            }
        })
    }

    /// Computes `h = x + addend`, and the RMSNorm of `h` as [`Linear::rms_norm_quantize`]. Returns
    /// `h`, of the shape and type of `x[.., K]`, too. `addend[.., K]` is BF16.
    ///
    /// # Errors
    /// As [`Linear::rms_norm_quantize`]; if x and the addend differ in shape.
    pub fn add_rms_norm_quantize(
        &self,
        x: &Tensor,
        addend: &Tensor,
        weight: &Tensor,
        eps: f64,
        width: Width,
    ) -> Result<(Tensor, QuantizedInput)> {
        match x.dtype() {
            DType::F32 => self.add_and_quantize::<f32>(x, addend, (weight, eps), width),
            _ => self.add_and_quantize::<bf16>(x, addend, (weight, eps), width),
        }
    }

    fn add_and_quantize<T: WithDType>(
        &self,
        x: &Tensor,
        addend: &Tensor,
        (weight, eps): (&Tensor, f64),
        width: Width,
    ) -> Result<(Tensor, QuantizedInput)>
    where
        for<'a> HiddenStateMut<'a>: From<MatMut<'a, T>>,
    {
        let k = self.k();
        let mut sums = x.flatten_all()?.to_vec1::<T>()?; // [M, k]
        let m = sums.len() / k;
        let input = with_norm(weight, k, |weight| {
            with_rows(addend, k, |addend: MatRef<'_, bf16>| {
                let sums = MatMut::new(&mut sums, m, k)?;
                let norm = AddRmsNorm::new(sums, addend, weight, eps as f32);
                self.quantized(x, |cpu, layout, activations| {
                    cpu.add_rms_norm_quantize(norm, width, layout, activations)
                })
            })
        })?;
        Ok((Tensor::from_vec(sums, x.dims(), &Device::Cpu)?, input))
    }

    /// Computes `silu(gate) * up` of `gate[.., K]` and `up[.., K]`, both BF16, and quantizes it at
    /// `width`, as [`Linear::rms_norm_quantize`].
    ///
    /// # Errors
    /// As [`Linear::rms_norm_quantize`]; if gate and up differ in shape.
    pub fn silu_mul_quantize(
        &self,
        gate: &Tensor,
        up: &Tensor,
        width: Width,
    ) -> Result<QuantizedInput> {
        let k = self.k();
        with_rows(gate, k, |gates: MatRef<'_, bf16>| {
            with_rows(up, k, |ups: MatRef<'_, bf16>| {
                let silu = SiluMul::new(gates, ups);
                self.quantized(gate, |cpu, layout, activations| {
                    cpu.silu_mul_quantize(&silu, width, layout, activations)
                })
            })
        })
    }

    /// Returns an input of the shape of `x[.., K]` that `fill` writes.
    fn quantized(
        &self,
        x: &Tensor,
        fill: impl FnOnce(&Cpu, ActivationLayout, &mut QuantizedActivations) -> crate::Result<()>,
    ) -> Result<QuantizedInput> {
        let Some((device, layout)) = self.input_layout() else {
            candle_core::bail!("expected a layer on the CPU without an order of k")
        };
        let (m, k) = (x.elem_count() / self.k(), self.k());
        let mut activations = device.take_activations(m, k)?;
        let filled = fill(&device.cpu, layout, &mut activations);
        let mut outer = x.dims().to_vec();
        outer.pop();
        // Returns the memory also after an error.
        let input = QuantizedInput {
            device: self.device().clone(),
            activations: Some(activations),
            outer,
        };
        filled?;
        Ok(input)
    }

    /// Returns `y[.., N]` of a quantized input, BF16, at its width.
    ///
    /// # Errors
    /// If the layer does not [share its input](Self::shares_input) with the layer that quantized
    /// it.
    pub fn forward_quantized(&self, input: &QuantizedInput) -> Result<Tensor> {
        let (Some((device, _)), Some(activations), DeviceLayer::Cpu { weight, bias }) =
            (self.input_layout(), &input.activations, self.layer())
        else {
            candle_core::bail!("expected a layer on the CPU without an order of k")
        };
        let (m, n): (usize, usize) = (input.outer.iter().product(), self.n());
        let mut y = vec![bf16::ZERO; m * n]; // [m, n]
        device.with_workspace(m, self.k(), |workspace| {
            let y = MatMut::new(&mut y, m, n)?;
            (device.cpu).run_quantized(activations, weight, bias.as_deref(), y, workspace)
        })?;
        let mut dims = input.outer.clone();
        dims.push(n);
        Tensor::from_vec(y, dims, &Device::Cpu)
    }

    /// Returns the device and the layout of a quantized input, if the layer takes one.
    fn input_layout(&self) -> Option<(&CpuDevice, ActivationLayout)> {
        #[allow(irrefutable_let_patterns)]
        // The enums have more variants with feature `candle-cuda`.
        let (BackendDevice::Cpu(device), DeviceLayer::Cpu { weight, .. }) =
            (&**self.device(), self.layer())
        else {
            return None;
        };
        let layout = ActivationLayout::of(weight);
        (!layout.gathered()).then_some((device, layout))
    }
}
