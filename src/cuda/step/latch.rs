//! The latch on a device: one look at the flag a step, for all its kernels.

use super::flag::MappedFlag;
use crate::cuda::Gpu;
use crate::cuda::memory::Place;
use crate::cuda::sys::{self, status};
use crate::step::{StepFlag, StepOptions};
use crate::{Error, Result, Width, WidthSource};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use std::sync::Arc;
use std::time::Duration;

impl WidthSource<'_> {
    /// The same source with the width of a flag read.
    pub(crate) fn read_flag(self) -> Self {
        self.on_host().map_or(self, Self::Fixed)
    }

    pub(crate) fn code(self) -> u32 {
        self.on_host().map_or(sys::W4AXK_LATCHED, Width::bits)
    }

    fn latch(&self) -> Option<&Latch> {
        match self {
            Self::Latched(latch) => Some(latch),
            _ => None,
        }
    }

    /// The latch's state, or null.
    pub(crate) fn state(self) -> *const sys::w4axk_latch_state {
        let address = self.latch().map_or(0, |latch| latch.place.address);
        address as *const _
    }

    pub(crate) fn place(&self) -> Option<&Place> {
        self.latch().map(|latch| &latch.place)
    }
}

/// Where the width of the step that runs stands, in device memory, with the flag that it comes from.
///
/// Made by [`Gpu::latch`]; set by [`Gpu::begin_step`]; read by every launch whose width is [`WidthSource::Latched`]. All of them
/// belong to one stream. Before the first step it holds BF16.
pub struct Latch {
    place: Place,
    flag: Arc<MappedFlag>,
    _state: CudaSlice<u64>,
}

impl Latch {
    /// The flag: the host's side of it.
    pub fn flag(&self) -> &Arc<MappedFlag> {
        &self.flag
    }
}

impl std::fmt::Debug for Latch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Latch")
            .field("place", &self.place)
            .field("flag", &self.flag)
            .finish()
    }
}

/// How a step begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatchOptions {
    /// How long it waits for the step's own word; at most a second.
    pub spin: Duration,
    /// The width that runs whatever the flag says: the host has chosen.
    pub forced: Option<Width>,
}

/// The conditional nodes of the graph that a latch is captured into.
pub(crate) struct Conditionals {
    pub handles: [u64; 4],
    /// 1 or 4; 0: none.
    pub count: u32,
}

impl Conditionals {
    pub const NONE: Self = Self {
        handles: [0; 4],
        count: 0,
    };
}

impl Gpu {
    /// A latch whose first step is `first`, over a flag of this device.
    ///
    /// # Errors
    /// [`Error::DeviceMismatch`] for a stream or a flag of another device, [`Error::Cuda`] if there is no memory.
    pub fn latch(
        &self,
        stream: &Arc<CudaStream>,
        flag: Arc<MappedFlag>,
        first: u32,
    ) -> Result<Latch> {
        self.check_stream(stream)?;
        if flag.ordinal() != self.ordinal() {
            return Err(Error::DeviceMismatch {
                what: "flag",
                expected: format!("a flag of CUDA device {}", self.ordinal()),
                got: format!("one of CUDA device {}", flag.ordinal()),
            });
        }
        // w4axk_latch_state: what was latched last, and the sequence of the next step.
        const { assert!(size_of::<sys::w4axk_latch_state>() == 16) };
        let state = stream
            .clone_htod(&[u64::from(Width::Bf16.bits()), u64::from(first)])
            .map_err(status::driver("allocating device memory"))?;
        let (address, guard) = state.device_ptr(stream);
        drop(guard);
        Ok(Latch {
            place: Place {
                address,
                device: self.ordinal(),
                stream: Some(stream.clone()),
            },
            flag,
            _state: state,
        })
    }

    /// Launches the latch: the step that begins here, in the stream's order, runs at what the flag says now.
    ///
    /// Allocates nothing, waits for nothing, can be captured: a replay begins the next step.
    ///
    /// # Errors
    /// [`Error::DeviceMismatch`] for a stream other than the latch's, [`Error::Config`] for a spin of more than a second,
    /// [`Error::Cuda`] if the launch fails.
    pub fn begin_step(
        &self,
        stream: &CudaStream,
        latch: &Latch,
        options: LatchOptions,
    ) -> Result<()> {
        self.launch_latch(stream, latch, options, &Conditionals::NONE)
    }

    /// Sets conditional nodes to what is latched: for a further graph of the same step.
    pub(crate) fn launch_branch(
        &self,
        stream: &CudaStream,
        latch: &Latch,
        conditionals: &Conditionals,
    ) -> Result<()> {
        self.launch(
            stream,
            latch,
            Duration::ZERO,
            sys::W4AXK_LATCHED,
            conditionals,
        )
    }

    pub(crate) fn launch_latch(
        &self,
        stream: &CudaStream,
        latch: &Latch,
        options: LatchOptions,
        conditionals: &Conditionals,
    ) -> Result<()> {
        let forced = options.forced.map_or(0, Width::bits);
        self.launch(stream, latch, options.spin, forced, conditionals)
    }

    fn launch(
        &self,
        stream: &CudaStream,
        latch: &Latch,
        spin: Duration,
        forced: u32,
        conditionals: &Conditionals,
    ) -> Result<()> {
        self.check_stream(stream)?;
        latch.place.check("latch", stream.into())?;
        StepOptions::default().with_spin(spin).validate()?;
        let words = latch.flag.device_address();
        let args = sys::w4axk_latch_args {
            state: latch.place.address as *mut _,
            flag: words as *const _,
            executed: (words + StepFlag::EXECUTED as u64) as *mut _,
            conditionals: conditionals.handles,
            conditional_count: conditionals.count,
            spin_us: spin.as_micros() as u32,
            forced,
            flags: 0,
            device: self.number(),
            reserved: 0,
        };
        // SAFETY: the state is this device's and this stream's, as `check` has seen; the words are mapped for this device, as
        // `Gpu::latch` has seen. Both live as long as the latch, which frees the state in the stream's order and the flag
        // after the device has finished.
        status::check("latch", unsafe {
            sys::w4axk_latch(&args, stream.cu_stream().cast())
        })
    }
}
