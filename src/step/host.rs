//! Steps on a thread of the host: the CPU backend's, and where there is no GPU.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::latch::HostLatch;
use super::pipeline::{Decide, PrefillWidth, StepEngine, StepOptions};
use super::words::StepFlag;
use crate::{Error, Result, Width};

/// What a step on the host does. It lives on the engine's thread.
pub trait HostStep: Send + 'static {
    /// What a step begins with, as the caller has it.
    type Observation: ?Sized;
    /// The engine's own copy of it, which goes to the thread and comes back.
    type Loaded: Default + Send + 'static;

    /// Copies an observation. Called on the caller's thread, on a copy of none or of an earlier one.
    fn load(loaded: &mut Self::Loaded, observation: &Self::Observation);

    /// The tokens of the observation.
    ///
    /// # Errors
    /// What ends the step: the decode does not run, and the pipeline's `finish` gives it.
    fn prefill(&mut self, loaded: &Self::Loaded, width: Width) -> Result<()>;

    /// The tokens of the action, one by one.
    ///
    /// # Errors
    /// As [`HostStep::prefill`].
    fn decode(&mut self, loaded: &Self::Loaded, width: Width) -> Result<()>;
}

/// A thread that runs steps, with the latch between or before their parts, over words in ordinary memory.
#[derive(Debug)]
pub struct HostEngine<S: HostStep> {
    options: StepOptions,
    words: Arc<StepFlag>,
    /// `None` only while it is dropped.
    requests: Option<Sender<S::Loaded>>,
    ends: Receiver<(S::Loaded, Result<()>)>,
    thread: Option<JoinHandle<S>>,
    spare: S::Loaded,
}

impl<S: HostStep> HostEngine<S> {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`Error::Config`] for options that make no sense.
    pub fn new(step: S, options: StepOptions) -> Result<Self> {
        options.validate()?;
        let words = Arc::new(StepFlag::new());
        let (requests, begun) = channel();
        let (ended, ends) = channel();
        let of_thread = words.clone();
        let thread = std::thread::Builder::new()
            .name("w4ax steps".into())
            .spawn(move || run(step, options, &of_thread, &begun, &ended))
            .map_err(|source| Error::Io {
                file: "a thread for steps".into(),
                source,
            })?;
        Ok(Self {
            options,
            words,
            requests: Some(requests),
            ends,
            thread: Some(thread),
            spare: S::Loaded::default(),
        })
    }

    /// Ends the thread, and gives back what it ran.
    ///
    /// # Panics
    /// With the step's own panic, if it did.
    pub fn into_step(mut self) -> S {
        self.join().expect("it is joined once")
    }

    fn join(&mut self) -> Option<S> {
        // The thread ends when nobody can ask it for anything.
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
            // A panic of the step was, or is, somebody else's to tell.
            let _ = thread.join();
        }
    }
}

fn run<S: HostStep>(
    mut step: S,
    options: StepOptions,
    words: &StepFlag,
    begun: &Receiver<S::Loaded>,
    ended: &Sender<(S::Loaded, Result<()>)>,
) -> S {
    let mut latch = HostLatch::new(0);
    while let Ok(loaded) = begun.recv() {
        let result = match options.decide {
            Decide::BeforeStep => {
                let width = latch.latch(words, options.spin).width;
                step.prefill(&loaded, width)
                    .and_then(|()| step.decode(&loaded, width))
            }
            Decide::DuringPrefill(prefill) => {
                let before = match prefill {
                    PrefillWidth::Fixed(width) => width,
                    PrefillWidth::LastLatched => latch.width(),
                };
                let prefilled = step.prefill(&loaded, before);
                // The step counts, whether its prefill failed or not.
                let width = latch.latch(words, options.spin).width;
                prefilled.and_then(|()| step.decode(&loaded, width))
            }
        };
        if ended.send((loaded, result)).is_err() {
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
            self.ended_early();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        match self.ends.recv() {
            Ok((loaded, result)) => {
                self.spare = loaded;
                result
            }
            Err(_) => self.ended_early(),
        }
    }
}

impl<S: HostStep> HostEngine<S> {
    /// The thread ends before it is told to only by a panic of the step: it goes on here.
    fn ended_early(&mut self) -> ! {
        self.join();
        panic!("the thread of the steps has ended, by a panic that was told before");
    }
}
