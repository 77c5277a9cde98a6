//! Recorded episodes through a policy that skips layers, its ablations, and the methods it is
//! compared with.

pub mod blind;
pub mod plot;
pub mod report;
pub mod run;
