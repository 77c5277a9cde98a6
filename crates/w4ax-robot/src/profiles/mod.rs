//! A policy at the profiles of the consistency rule, on recorded inputs: floors of its layers, and
//! the distribution of its uncertainty.

mod floors;
mod run;

pub use floors::{FloorsOption, first_block};
pub use run::{ProfileRun, Profiles};
