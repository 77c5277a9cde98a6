//! The handle of a device.

use super::gemm::table::{DeviceKernelTable, DeviceProps, KernelTable};
use super::memory::StreamRef;
use super::sys::enums::width_of;
use super::sys::status;
use super::sys::{self, Family, Mma};
use crate::{CudaVersion, Error, Result, Unavailable, Width};
use cudarc::driver::CudaContext;
use cudarc::driver::sys::CUdevice_attribute_enum;
use std::sync::Arc;

/// A CUDA device that the kernels run on. Clones are the same handle, and threads may share
/// it.
#[derive(Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
    table: DeviceKernelTable,
}

struct Inner {
    context: Arc<CudaContext>,
    name: String,
    props: DeviceProps,
}

/// A kernel as it is loaded on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kernel {
    /// The name, as in a [`LaunchPlan`](super::LaunchPlan).
    pub name: &'static str,
    /// The family; `None` for a kernel that is not a GEMM.
    pub family: Option<Family>,
    /// The widest activations that it takes (the 4-bit kernels take 2-bit ones too); `None` for a
    /// routed kernel, which reads the width from a latch.
    pub width: Option<Width>,
    /// The matrix instruction.
    pub mma: Mma,
    /// Registers of a thread.
    pub registers: u32,
    /// Largest shared memory of a block, in bytes.
    pub shared_bytes: u32,
    /// Local memory of a thread (spills), in bytes.
    pub local_bytes: u32,
    /// Threads of a block.
    pub threads: u32,
    /// The architecture of the machine code, 10 * major + minor.
    pub binary_version: u32,
    /// The architecture of the PTX; below `binary_version` if the driver compiled it.
    pub ptx_version: u32,
}

impl Gpu {
    /// Opens device `ordinal`, as `CUDA_VISIBLE_DEVICES` numbers them.
    ///
    /// Creates the primary context and loads the kernels that show whether the build has code for
    /// the device: call it outside of captures. The others are loaded at their first launch, which
    /// takes longer then, most of all if the driver has to compile them; [`Gpu::kernels`] loads all
    /// of them.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with the reason if the device cannot be used.
    pub fn new(ordinal: usize) -> Result<Self> {
        probe(ordinal).map_err(|reason| reason.of_device(ordinal))?;
        let context = CudaContext::new(ordinal).map_err(|error| {
            let reason = error.to_string();
            Unavailable::Failed { reason }.of_device(ordinal)
        })?;
        Self::load(context)
    }

    /// Opens the device of an existing context.
    ///
    /// # Errors
    /// As [`Gpu::new`]; [`Error::DeviceMismatch`] unless it is the primary context of the device,
    /// which the runtime of the kernels uses.
    pub fn with_context(context: Arc<CudaContext>) -> Result<Self> {
        let ordinal = context.ordinal();
        probe(ordinal).map_err(|reason| reason.of_device(ordinal))?;
        if !context.is_primary() {
            return Err(Error::DeviceMismatch {
                what: "context",
                expected: format!("the primary context of CUDA device {ordinal}"),
                got: "another context".into(),
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
        // SAFETY: the library accepts any number.
        match unsafe { sys::w4axk_preload(ordinal as i32) } {
            sys::W4AXK_OK => {}
            sys::W4AXK_NO_KERNEL_IMAGE => {
                let reason = Unavailable::NoKernelImage {
                    name,
                    capability,
                    built_for: sys::BUILT_FOR,
                };
                return Err(reason.of_device(ordinal));
            }
            other => status::check("loading the kernels", other)?,
        }
        let multiprocessors = context
            .attribute(CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
            .map_err(status::driver("cuDeviceGetAttribute"))?;
        let props = DeviceProps {
            capability: (capability.0 as u32, capability.1 as u32),
            wgmma: loaded_mma(ordinal as i32, Width::A8, Family::Wgmma).is_ok(),
            multiprocessors: multiprocessors as u32,
        };
        Ok(Self {
            table: KernelTable::built_in().for_device(&props),
            inner: Arc::new(Inner {
                context,
                name,
                props,
            }),
        })
    }

    /// The same device with another table for the kernels of its GEMMs.
    #[must_use]
    pub fn with_table(&self, table: &KernelTable) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            table: table.for_device(&self.inner.props),
        }
    }

    pub(crate) fn table(&self) -> &DeviceKernelTable {
        &self.table
    }

    /// The properties that select rows of the [`KernelTable`].
    pub fn props(&self) -> DeviceProps {
        self.inner.props
    }

    /// The number of the device.
    pub fn ordinal(&self) -> usize {
        self.inner.context.ordinal()
    }

    /// The primary context of the device, to create streams and memory.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.inner.context
    }

    /// The name of the device.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The compute capability: (8, 0) is sm_80.
    pub fn compute_capability(&self) -> (i32, i32) {
        let (major, minor) = self.inner.props.capability;
        (major as i32, minor as i32)
    }

    /// The newest CUDA version that the driver supports.
    pub fn driver_version(&self) -> Option<CudaVersion> {
        status::driver_version()
    }

    /// Whether the kernels of a family run on this device: [`Family::Wgmma`] on sm_90 if the build
    /// has code for sm_90a, the other families on every device.
    pub fn has_family(&self, family: Family) -> bool {
        self.mma(Width::A8, family).is_ok()
    }

    /// The matrix instruction of a family at a width on this device, read from the loaded code.
    ///
    /// # Errors
    /// [`Error::Cuda`] if the device does not support the family, or the library cannot read the
    /// code.
    pub fn mma(&self, width: Width, family: Family) -> Result<Mma> {
        loaded_mma(self.number(), width, family)
    }

    /// All kernels as they are loaded on this device: those of the library, without the ones for
    /// which the driver is too old. Loads those that no launch has used yet.
    ///
    /// # Errors
    /// [`Error::Cuda`] if the library cannot read the attributes of a kernel.
    pub fn kernels(&self) -> Result<Vec<Kernel>> {
        // SAFETY: a constant of the library.
        let count = unsafe { sys::w4axk_kernel_count() };
        (0..count)
            .filter_map(|index| self.kernel(index).transpose())
            .collect()
    }

    /// `None` if the driver is too old for the kernel.
    fn kernel(&self, index: u32) -> Result<Option<Kernel>> {
        let mut a = sys::w4axk_kernel_attributes_t::default();
        // SAFETY: the function writes one structure.
        let status = unsafe { sys::w4axk_kernel_attributes(self.number(), index, &mut a) };
        if status == sys::W4AXK_DRIVER_TOO_OLD {
            return Ok(None);
        }
        status::check("kernel attributes", status)?;
        Ok(Some(Kernel {
            // SAFETY: a static text.
            name: unsafe { sys::text(sys::w4axk_kernel_name(index)) },
            family: Family::from_code(a.family).ok(),
            width: width_of(a.width)?,
            mma: Mma::from_code(a.mma)?,
            registers: a.registers,
            shared_bytes: a.static_shared + a.dynamic_shared,
            local_bytes: a.local,
            threads: a.threads,
            binary_version: a.binary_version,
            ptx_version: a.ptx_version,
        }))
    }

    /// Checks that a stream belongs to the primary context of this device.
    pub(crate) fn check_stream<'s>(&self, stream: impl Into<StreamRef<'s>>) -> Result<()> {
        let context = stream.into().context();
        if *context == **self.context() {
            return Ok(());
        }
        Err(Error::DeviceMismatch {
            what: "stream",
            expected: format!(
                "a stream of the primary context of CUDA device {}",
                self.ordinal()
            ),
            got: format!(
                "a stream of another context on CUDA device {}",
                context.ordinal()
            ),
        })
    }

    /// The ordinal as the kernel library takes it.
    pub(crate) fn number(&self) -> i32 {
        self.ordinal() as i32
    }
}

fn loaded_mma(device: i32, width: Width, family: Family) -> Result<Mma> {
    let mut mma = 0;
    // SAFETY: the function writes one number.
    let status = unsafe { sys::w4axk_mma_of(device, width.bits(), family.code(), &mut mma) };
    status::check("mma", status)?;
    Mma::from_code(mma)
}

/// Checks that device `ordinal` exists, before any call of cudarc, which panics without a driver.
fn probe(ordinal: usize) -> std::result::Result<(), Unavailable> {
    let count = status::device_count()?;
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
            .field("props", &self.inner.props)
            .finish()
    }
}
