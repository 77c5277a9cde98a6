//! Runs steps on a thread of the host, for the CPU backend.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::engine::StepEngine;
use super::latch::HostLatch;
use super::options::{Decide, PrefillWidth, StepOptions};
use super::words::StepFlag;
use crate::{Error, Result, Width};

/// The computation of a step on the host. It is moved to the engine's thread.
pub trait HostStep: Send + 'static {
    /// The input of a step.
    type Observation: ?Sized;
    /// The engine's copy of an observation, which is reused by later steps.
    type Loaded: Default + Send + 'static;

    /// Copies an observation. Called on the caller's thread; `loaded` is new or holds an earlier
    /// observation.
    fn load(loaded: &mut Self::Loaded, observation: &Self::Observation);

    /// Computes the tokens of the observation at `width`.
    ///
    /// # Errors
    /// An error ends the step without a decode.
    /// [`StepPipeline::finish`](super::StepPipeline::finish) returns it.
    fn prefill(&mut self, loaded: &Self::Loaded, width: Width) -> Result<()>;

    /// Computes the tokens of the action at `width`, one by one.
    ///
    /// # Errors
    /// [`StepPipeline::finish`](super::StepPipeline::finish) returns the error.
    fn decode(&mut self, loaded: &Self::Loaded, width: Width) -> Result<()>;
}

/// Runs steps on a thread of its own, with a [`HostLatch`] and flags in ordinary memory.
#[derive(Debug)]
pub struct HostEngine<S: HostStep> {
    options: StepOptions,
    words: Arc<StepFlag>,
    /// `None` only while the engine is dropped.
    requests: Option<Sender<S::Loaded>>,
    results: Receiver<(S::Loaded, Result<()>)>,
    thread: Option<JoinHandle<S>>,
    spare: S::Loaded,
}

impl<S: HostStep> HostEngine<S> {
    /// Starts the thread.
    ///
    /// # Errors
    /// - As [`StepOptions::validate`].
    /// - [`Error::Io`] if the thread cannot be started.
    pub fn new(step: S, options: StepOptions) -> Result<Self> {
        options.validate()?;
        let words = Arc::new(StepFlag::new());
        let (requests, incoming) = channel();
        let (outgoing, results) = channel();
        let thread_words = words.clone();
        let thread = std::thread::Builder::new()
            .name("w4ax steps".into())
            .spawn(move || run(step, options, &thread_words, &incoming, &outgoing))
            .map_err(|source| Error::Io {
                file: "thread of the step engine".into(),
                source,
            })?;
        Ok(Self {
            options,
            words,
            requests: Some(requests),
            results,
            thread: Some(thread),
            spare: S::Loaded::default(),
        })
    }

    /// Ends the thread and returns the step.
    ///
    /// # Panics
    /// If the step panicked, with its panic.
    pub fn into_step(mut self) -> S {
        self.join().expect("the thread is joined only once")
    }

    fn join(&mut self) -> Option<S> {
        // The thread ends when its channel is closed.
        self.requests = None;
        self.thread.take().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl<S: HostStep> Drop for HostEngine<S> {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the step has been reported by the panic hook. `drop` must not panic again.
            let _ = thread.join();
        }
    }
}

fn run<S: HostStep>(
    mut step: S,
    options: StepOptions,
    words: &StepFlag,
    incoming: &Receiver<S::Loaded>,
    outgoing: &Sender<(S::Loaded, Result<()>)>,
) -> S {
    let mut latch = HostLatch::new(0);
    while let Ok(loaded) = incoming.recv() {
        let result = match options.decide() {
            Decide::BeforeStep => {
                let width = latch.latch(words, options.spin()).width;
                step.prefill(&loaded, width)
                    .and_then(|()| step.decode(&loaded, width))
            }
            Decide::DuringPrefill(prefill) => {
                let before = match prefill {
                    PrefillWidth::Fixed(width) => width,
                    PrefillWidth::LastLatched => latch.width(),
                };
                let prefilled = step.prefill(&loaded, before);
                // The latch counts the step even if its prefill failed.
                let width = latch.latch(words, options.spin()).width;
                prefilled.and_then(|()| step.decode(&loaded, width))
            }
        };
        if outgoing.send((loaded, result)).is_err() {
            break;
        }
    }
    step
}

impl<S: HostStep> StepEngine for HostEngine<S> {
    type Observation = S::Observation;

    fn options(&self) -> &StepOptions {
        &self.options
    }

    fn words(&self) -> &StepFlag {
        &self.words
    }

    fn begin(&mut self, _sequence: u32, observation: &S::Observation) -> Result<()> {
        let mut loaded = std::mem::take(&mut self.spare);
        S::load(&mut loaded, observation);
        let sent = self
            .requests
            .as_ref()
            .is_some_and(|requests| requests.send(loaded).is_ok());
        if !sent {
            self.propagate_panic();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        match self.results.recv() {
            Ok((loaded, result)) => {
                self.spare = loaded;
                result
            }
            Err(_) => self.propagate_panic(),
        }
    }
}

impl<S: HostStep> HostEngine<S> {
    /// Continues the panic of the step on this thread. Only a panic ends the thread while its
    /// channel is open.
    fn propagate_panic(&mut self) -> ! {
        self.join();
        panic!("the thread of the step engine ended by a panic that was propagated before");
    }
}
