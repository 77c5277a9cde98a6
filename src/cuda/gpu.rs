//! The handle of a device.

use super::gemm::table::{DeviceKernelTable, DeviceProps, KernelTable};
use super::gemm::{Family, Mma, QuantizedActivations};
use super::memory::Workspace;
use super::sys::status;
use super::{DeviceWeight, sys};
use crate::{CudaVersion, Error, PackedWeight, Result, Unavailable, Width};
use cudarc::driver::sys::CUdevice_attribute_enum;
use cudarc::driver::{CudaContext, CudaStream};
use std::sync::Arc;

/// A CUDA device with the kernels loaded on it. Clones are the same handle; threads may share it.
#[derive(Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
    choices: DeviceKernelTable,
}

struct Inner {
    context: Arc<CudaContext>,
    name: String,
    chip: DeviceProps,
}

/// A kernel as it is loaded on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its name, as a plan gives it.
    pub name: &'static str,
    /// Its family; `None` for `quantize_pack` and the latch.
    pub family: Option<Family>,
    /// The activations that it takes.
    pub width: KernelWidth,
    /// What it multiplies with.
    pub mma: Mma,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of shared memory of a block, at most.
    pub shared_bytes: u32,
    /// Bytes of local memory of a thread: spills.
    pub local_bytes: u32,
    /// Threads of a block.
    pub threads: u32,
    /// The architecture of the machine code, 10 * major + minor.
    pub binary_version: u32,
    /// The architecture that the source was compiled for; below the other where the driver compiled PTX.
    pub ptx_version: u32,
}

/// The activations that a kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KernelWidth {
    /// Of at most this width (the 4-bit kernels take 2-bit ones too).
    UpTo(Width),
    /// Of whatever width a latch says.
    Latched,
}

impl Gpu {
    /// Device `ordinal`, as `CUDA_VISIBLE_DEVICES` numbers them. Loads all kernels, which may take a second and
    /// synchronize: do it when nothing is captured.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with the text of an [`Unavailable`] if the device cannot be had.
    pub fn new(ordinal: usize) -> Result<Self> {
        probe(ordinal).map_err(|problem| problem.of_device(ordinal))?;
        let context = CudaContext::new(ordinal).map_err(|error| {
            let reason = error.to_string();
            Unavailable::Failed { reason }.of_device(ordinal)
        })?;
        Self::load(context)
    }

    /// The device of a context that there is already.
    ///
    /// # Errors
    /// As [`Gpu::new`]; [`Error::DeviceMismatch`] if it is not the device's primary context: the runtime that launches the kernels
    /// uses that one.
    pub fn with_context(context: Arc<CudaContext>) -> Result<Self> {
        let ordinal = context.ordinal();
        probe(ordinal).map_err(|problem| problem.of_device(ordinal))?;
        if !context.is_primary() {
            return Err(Error::DeviceMismatch {
                what: "context",
                expected: format!("the primary context of CUDA device {ordinal}"),
                got: "a context of its own".into(),
            });
        }
        Self::load(context)
    }

    fn load(context: Arc<CudaContext>) -> Result<Self> {
        let ordinal = context.ordinal();
        let name = context.name().map_err(status::driver("cuDeviceGetName"))?;
        let capability = context
            .compute_capability()
            .map_err(status::driver("cuDeviceGetAttribute"))?;
        if capability < (8, 0) {
            return Err(Unavailable::DeviceTooOld { name, capability }.of_device(ordinal));
        }
        // SAFETY: a number; the library takes any.
        match unsafe { sys::w4axk_preload(ordinal as i32) } {
            sys::W4AXK_OK => {}
            sys::W4AXK_NO_KERNEL_IMAGE => {
                let built_for = sys::BUILT_FOR;
                let problem = Unavailable::NoKernelImage {
                    name,
                    capability,
                    built_for,
                };
                return Err(problem.of_device(ordinal));
            }
            other => status::check("loading the kernels", other)?,
        }
        let multiprocessors = context
            .attribute(CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
            .map_err(status::driver("cuDeviceGetAttribute"))?;
        let chip = DeviceProps {
            capability: (capability.0 as u32, capability.1 as u32),
            wgmma: loaded_mma(ordinal as i32, Width::A8, Family::Wgmma).is_ok(),
            multiprocessors: multiprocessors as u32,
        };
        Ok(Self {
            choices: KernelTable::built_in().of(&chip),
            inner: Arc::new(Inner {
                context,
                name,
                chip,
            }),
        })
    }

    /// The same device, whose GEMMs go by another table than the library's.
    #[must_use]
    pub fn with_choices(&self, choices: &KernelTable) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            choices: choices.of(&self.inner.chip),
        }
    }

    pub(crate) fn choices(&self) -> &DeviceKernelTable {
        &self.choices
    }

    /// What the table of crossovers goes by.
    pub fn chip(&self) -> DeviceProps {
        self.inner.chip
    }

    /// The device's number.
    pub fn ordinal(&self) -> usize {
        self.inner.context.ordinal()
    }

    /// The device's primary context, to make streams and memory with.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.inner.context
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its compute capability: (8, 0) is sm_80.
    pub fn compute_capability(&self) -> (i32, i32) {
        let (major, minor) = self.inner.chip.capability;
        (major as i32, minor as i32)
    }

    /// The newest CUDA that its driver supports.
    pub fn driver_version(&self) -> Option<CudaVersion> {
        status::driver_version()
    }

    /// Whether the kernels of a family run on this device: [`Family::Wgmma`] where it is of sm_90 and the build has code for sm_90a,
    /// the others everywhere.
    pub fn has_family(&self, family: Family) -> bool {
        self.mma(Width::A8, family).is_ok()
    }

    /// The instruction that GEMMs of a family multiply with at a width, on this device: read from the loaded code.
    ///
    /// # Errors
    /// [`Error::Cuda`] if the device does not have the family, or the library does not know.
    pub fn mma(&self, width: Width, family: Family) -> Result<Mma> {
        loaded_mma(self.number(), width, family)
    }

    /// Every kernel as it is loaded on this device.
    ///
    /// # Errors
    /// [`Error::Cuda`] if the library cannot say.
    pub fn kernels(&self) -> Result<Vec<Kernel>> {
        // SAFETY: a constant of the library.
        let count = unsafe { sys::w4axk_kernel_count() };
        (0..count).map(|index| self.kernel(index)).collect()
    }

    fn kernel(&self, index: u32) -> Result<Kernel> {
        let mut a = sys::w4axk_kernel_attributes_t::default();
        // SAFETY: it fills one structure.
        let status = unsafe { sys::w4axk_kernel_attributes(self.number(), index, &mut a) };
        status::check("kernel attributes", status)?;
        Ok(Kernel {
            // SAFETY: a static text.
            name: unsafe { sys::text(sys::w4axk_kernel_name(index)) },
            family: Family::of(a.family),
            width: match a.width {
                sys::W4AXK_LATCHED => KernelWidth::Latched,
                bits => KernelWidth::UpTo(bits.try_into()?),
            },
            mma: Mma::of(a.mma)?,
            registers: a.registers,
            shared_bytes: a.static_shared + a.dynamic_shared,
            local_bytes: a.local,
            threads: a.threads,
            binary_version: a.binary_version,
            ptx_version: a.ptx_version,
        })
    }

    /// Copies a weight to the device, in the layout that it has. Waits until it is there.
    ///
    /// # Errors
    /// [`Error::Cuda`] if there is no memory for it; [`Error::Unsupported`] for a weight with an order of k, which
    /// [`Gpu::upload_act_order`] takes.
    pub fn upload(&self, weight: &PackedWeight) -> Result<DeviceWeight> {
        if weight.order().is_some() {
            let reason = "it has an order of k; Gpu::upload_act_order takes it";
            return Err(Error::unsupported(
                "weight",
                "a GEMM without a gather",
                reason,
            ));
        }
        DeviceWeight::upload(self.context(), weight)
    }

    /// The workspace for GEMMs on a stream with up to `max_m` tokens and `max_k` inputs, whatever their width, grouping, N
    /// and family.
    ///
    /// # Errors
    /// [`Error::DeviceMismatch`] if the stream is not this device's, [`Error::Cuda`] if there is no memory.
    pub fn workspace(
        &self,
        stream: &Arc<CudaStream>,
        max_m: usize,
        max_k: usize,
    ) -> Result<Workspace> {
        self.check_stream(stream)?;
        Workspace::new(stream, max_m, max_k)
    }

    /// Room for the packed activations of up to `max_m` tokens and `max_k` inputs, whatever their width and grouping.
    ///
    /// # Errors
    /// As [`Gpu::workspace`].
    pub fn packed_activations(
        &self,
        stream: &Arc<CudaStream>,
        max_m: usize,
        max_k: usize,
    ) -> Result<QuantizedActivations> {
        self.check_stream(stream)?;
        QuantizedActivations::new(stream, max_m, max_k)
    }

    pub(crate) fn check_stream(&self, stream: &CudaStream) -> Result<()> {
        if **stream.context() == **self.context() {
            return Ok(());
        }
        Err(Error::DeviceMismatch {
            what: "stream",
            expected: format!(
                "a stream of CUDA device {}'s primary context",
                self.ordinal()
            ),
            got: format!(
                "a stream of another context, on CUDA device {}",
                stream.context().ordinal()
            ),
        })
    }

    /// The ordinal as the C side takes it.
    pub(crate) fn number(&self) -> i32 {
        self.ordinal() as i32
    }
}

fn loaded_mma(device: i32, width: Width, family: Family) -> Result<Mma> {
    let mut mma = 0;
    // SAFETY: it writes one number.
    let status = unsafe { sys::w4axk_mma_of(device, width.bits(), family.code(), &mut mma) };
    status::check("mma", status)?;
    Mma::of(mma)
}

/// Whether device `ordinal` is there, before cudarc is asked: it panics without a driver.
fn probe(ordinal: usize) -> std::result::Result<(), Unavailable> {
    let count = super::device_count()?;
    if ordinal < count {
        Ok(())
    } else {
        Err(Unavailable::NoSuchDevice { ordinal, count })
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu")
            .field("ordinal", &self.ordinal())
            .field("name", &self.inner.name)
            .field("chip", &self.inner.chip)
            .finish()
    }
}
