//! The command line of w4ax: the binary is [`main`]; [`doctor`] can be called from other programs.

mod calibrate;
mod cli;
mod convert;
mod costs;
#[cfg(feature = "train")]
mod distill;
pub mod doctor;
mod episode;
#[cfg(feature = "candle")]
mod llama_block;
mod report;
mod sensitivity;
mod serve;
mod skip_episode;
#[cfg(feature = "vla")]
mod vla;
#[cfg(feature = "vla")]
mod width;

pub use cli::main;
