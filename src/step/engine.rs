//! The interface of an engine that runs steps.

use super::options::StepOptions;
use super::words::StepFlag;
use crate::Result;

/// Runs the steps of a [`StepPipeline`](super::StepPipeline): on a thread of the host
/// ([`super::HostEngine`]) or on a GPU (`cuda::CudaEngine`).
///
/// `begin` enqueues a step and `finish` waits for it. With
/// [`Decide::BeforeStep`](super::Decide::BeforeStep) a step is: load the observation, latch,
/// prefill, decode. With [`Decide::DuringPrefill`](super::Decide::DuringPrefill) it is: load,
/// prefill, latch, decode. Only the latch reads the flag.
pub trait StepEngine {
    /// The input of a step.
    type Observation: ?Sized;

    /// Returns the options of the engine.
    fn options(&self) -> &StepOptions;

    /// Returns the words that the latch reads and writes.
    fn words(&self) -> &StepFlag;

    /// Enqueues step `sequence` without waiting for it. An engine without a thread or a device runs
    /// the step here.
    ///
    /// # Errors
    /// If the step cannot be enqueued. Errors after the latch are those of `finish`.
    fn begin(&mut self, sequence: u32, observation: &Self::Observation) -> Result<()>;

    /// Notifies the engine that the flag of the running step has been stored. The default does
    /// nothing.
    ///
    /// # Errors
    /// If the step cannot continue.
    fn decided(&mut self, sequence: u32) -> Result<()> {
        let _ = sequence;
        Ok(())
    }

    /// Waits for the end of the step.
    ///
    /// # Errors
    /// If the step failed.
    fn finish(&mut self) -> Result<()>;
}

impl<E: StepEngine> StepEngine for &mut E {
    type Observation = E::Observation;

    fn options(&self) -> &StepOptions {
        (**self).options()
    }

    fn words(&self) -> &StepFlag {
        (**self).words()
    }

    fn begin(&mut self, sequence: u32, observation: &Self::Observation) -> Result<()> {
        (**self).begin(sequence, observation)
    }

    fn decided(&mut self, sequence: u32) -> Result<()> {
        (**self).decided(sequence)
    }

    fn finish(&mut self) -> Result<()> {
        (**self).finish()
    }
}
