//! The sources of the crate that two threads share words by, as they are.
#![allow(dead_code)] // What the rest of the crate uses.

#[path = "../../../src/error.rs"]
mod error;
#[path = "../../../src/flag.rs"]
mod flag;
#[path = "../../../src/width.rs"]
mod width;

// Of the steps: without the pipeline, whose dispatcher is one thread's.
#[path = "../../../src/step/latch.rs"]
mod latch;
#[path = "../../../src/step/words.rs"]
mod words;

pub use error::{Error, Result};
pub use flag::{FlagWord, WidthFlag};
pub use latch::HostLatch;
pub use width::Width;
pub use words::{Executed, Outcome, StepFlag};
