//! The main job: recorded episodes through the quantized policy at fixed, dynamic and random
//! widths.

pub mod control;
pub mod json;
pub mod plot;
pub mod replay;
pub mod rule;
pub mod run;
pub mod shuffle;
pub mod summary;
pub mod table;
