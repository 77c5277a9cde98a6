//! Robot policies on w4ax: recordings, networks for skipped layers, training, reports and plots.
//!
//! The `w4ax` command line runs this crate. A [`policy::Policy`] is a small transformer of a
//! robot's controller, its weights packed. [`compute`] runs its layers on the CPU or, with feature
//! `cuda`, on a GPU.

pub mod budget;
pub mod checkpoint;
pub mod closed_loop;
pub mod columns;
pub mod compute;
pub mod dataset;
pub mod draw;
pub mod early_exit;
pub mod embedded;
pub mod episode;
pub mod floors;
pub mod hidden;
#[cfg(feature = "candle")]
pub mod llama;
pub mod networks;
pub mod paths;
pub mod policy;
pub mod profiles;
pub mod random_skips;
pub mod report;
pub mod rollouts;
pub mod rows;
pub mod sensitivity;
pub mod setting;
pub mod setup;
pub mod shapes;
pub mod skip_episode;
pub mod skipping;
pub mod steps;
pub mod table;
#[cfg(feature = "train")]
pub mod training;
pub mod uncertainty;
pub mod weight_options;
