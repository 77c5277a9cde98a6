//! The latch on a device: one load of the flag per step, for all its kernels.

use super::flag::MappedFlag;
use crate::cuda::Gpu;
use crate::cuda::memory::{Place, StreamRef};
use crate::cuda::sys::{self, status};
use crate::step::{StepFlag, StepOptions};
use crate::{Error, Result, Width};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use std::sync::Arc;
use std::time::Duration;

/// The width of the running step in device memory, and the flag from which it is read.
///
/// Created by [`Gpu::latch`], set by [`Gpu::begin_step`], read by every launch whose width is
/// [`WidthSource::Latched`](crate::WidthSource::Latched). All these launches use one stream. Before
/// the first step the latch holds BF16.
pub struct Latch {
    place: Place,
    flag: Arc<MappedFlag>,
    _state: CudaSlice<u64>,
}

impl Latch {
    /// The flag, for the host.
    pub fn flag(&self) -> &Arc<MappedFlag> {
        &self.flag
    }

    /// The place of the state.
    pub(crate) fn place(&self) -> &Place {
        &self.place
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

/// How a step begins. By default it neither waits nor forces a width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LatchOptions {
    spin: Duration,
    forced: Option<Width>,
}

impl LatchOptions {
    /// Sets how long the latch waits for the decision of the step, at most one second.
    #[must_use]
    pub fn with_spin(self, spin: Duration) -> Self {
        Self { spin, ..self }
    }

    /// Sets the width of the step, whatever the flag holds: the host has decided. `None` (the
    /// default) reads the flag.
    #[must_use]
    pub fn with_forced(self, forced: impl Into<Option<Width>>) -> Self {
        Self {
            forced: forced.into(),
            ..self
        }
    }

    /// How long the latch waits.
    pub fn spin(&self) -> Duration {
        self.spin
    }

    /// The forced width.
    pub fn forced(&self) -> Option<Width> {
        self.forced
    }
}

/// The conditional nodes of the graph that captures a latch.
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
    /// Creates a latch whose first step is `first`, for a flag of this device.
    ///
    /// # Errors
    /// [`Error::DeviceMismatch`] for a stream or a flag of another device, [`Error::Driver`] if the
    /// device is out of memory.
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
                got: format!("a flag of CUDA device {}", flag.ordinal()),
            });
        }
        // w4axk_latch_state: the latched width, and the number of the next step.
        const { assert!(size_of::<sys::w4axk_latch_state>() == 16) };
        let state = stream
            .clone_htod(&[u64::from(Width::Bf16.bits()), u64::from(first)])
            .map_err(status::driver("allocating device memory"))?;
        let (address, guard) = state.device_ptr(stream);
        drop(guard);
        Ok(Latch {
            place: Place::on_stream(address, stream),
            flag,
            _state: state,
        })
    }

    /// Launches the latch. The step that begins here, in the order of the stream, runs at the width
    /// that the flag holds then.
    ///
    /// The launch allocates nothing, does not synchronize, and can be captured: each replay begins
    /// the next step.
    ///
    /// # Errors
    /// [`Error::DeviceMismatch`] for a stream other than that of the latch, [`Error::Config`] for a
    /// spin of more than one second, [`Error::Cuda`] if the launch fails.
    pub fn begin_step<'s>(
        &self,
        stream: impl Into<StreamRef<'s>>,
        latch: &Latch,
        options: LatchOptions,
    ) -> Result<()> {
        self.launch_latch(stream.into(), latch, options, &Conditionals::NONE)
    }

    /// Sets the conditional nodes of another graph of the same step to the latched width.
    pub(super) fn launch_branch(
        &self,
        stream: StreamRef<'_>,
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

    pub(super) fn launch_latch(
        &self,
        stream: StreamRef<'_>,
        latch: &Latch,
        options: LatchOptions,
        conditionals: &Conditionals,
    ) -> Result<()> {
        let forced = options.forced.map_or(0, Width::bits);
        self.launch(stream, latch, options.spin, forced, conditionals)
    }

    fn launch(
        &self,
        stream: StreamRef<'_>,
        latch: &Latch,
        spin: Duration,
        forced: u32,
        conditionals: &Conditionals,
    ) -> Result<()> {
        self.check_stream(stream)?;
        latch.place.check("latch", stream)?;
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
        // SAFETY: the state is memory of this device and stream, as `check` verified; the words are
        // mapped for this device, as `Gpu::latch` verified. Both live as long as the latch, which
        // frees the state in stream order and the flag after the device has finished. The stream is
        // alive, as in `Gpu::run`.
        status::check("latch", unsafe { sys::w4axk_latch(&args, stream.as_ptr()) })
    }
}
