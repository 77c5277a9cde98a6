//! The consistency rule, alone and in control steps.

mod rule;
mod step;
