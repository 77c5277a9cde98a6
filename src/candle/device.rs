//! The devices on which layers run, and the operands of a layer on a device.

#[cfg(feature = "candle-cuda")]
use super::cuda;
use crate::PackedWeight;
use crate::cpu::{Cpu, QuantizedActivations, Workspace};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The device of a backend.
#[derive(Debug)]
pub(super) enum BackendDevice {
    Cpu(CpuDevice),
    #[cfg(feature = "candle-cuda")]
    Cuda(cuda::Place),
}

/// The CPU, and the memory that no call uses at present.
#[derive(Debug)]
pub(super) struct CpuDevice {
    pub cpu: Cpu,
    workspaces: Mutex<Vec<Workspace>>,
    activations: Mutex<Vec<QuantizedActivations>>,
}

impl CpuDevice {
    pub fn new(cpu: Cpu) -> Self {
        Self {
            cpu,
            workspaces: Mutex::default(),
            activations: Mutex::default(),
        }
    }

    /// Returns memory for quantized activations of `m` rows of `k` inputs.
    pub fn take_activations(&self, m: usize, k: usize) -> crate::Result<QuantizedActivations> {
        let last = lock(&self.activations).pop();
        let (max_m, max_k) = (last.as_ref()).map_or((0, 0), QuantizedActivations::sizes);
        match last {
            Some(large_enough) if m <= max_m && k <= max_k => Ok(large_enough),
            _ => self.cpu.quantized_activations(m.max(max_m), k.max(max_k)),
        }
    }

    /// Keeps memory for the next [`CpuDevice::take_activations`].
    pub fn return_activations(&self, activations: QuantizedActivations) {
        lock(&self.activations).push(activations);
    }

    /// Calls `run` with a workspace for `m` rows of `k` inputs.
    ///
    /// Each running call has a workspace of its own. A call that waited for another call's
    /// workspace could wait for itself, because a thread of rayon may start the second call while
    /// the first one's tasks run.
    pub fn with_workspace(
        &self,
        m: usize,
        k: usize,
        run: impl FnOnce(&mut Workspace) -> crate::Result<()>,
    ) -> crate::Result<()> {
        let last = lock(&self.workspaces).pop();
        let (max_m, max_k) = last.as_ref().map_or((0, 0), Workspace::sizes);
        let mut workspace = match last {
            Some(large_enough) if m <= max_m && k <= max_k => large_enough,
            _ => self.cpu.workspace(m.max(max_m), k.max(max_k))?,
        };
        let result = run(&mut workspace);
        lock(&self.workspaces).push(workspace);
        result
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The weight and the bias on the layer's device.
#[derive(Debug)]
pub(super) enum DeviceLayer {
    Cpu {
        /// `[N, K]`
        weight: PackedWeight,
        /// `[N]`
        bias: Option<Vec<f32>>,
    },
    #[cfg(feature = "candle-cuda")]
    Cuda(cuda::Loaded),
}
