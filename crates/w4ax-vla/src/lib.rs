//! Runs OpenVLA and OpenVLA-OFT: images and an instruction become a robot's action, at the
//! activation width of each control step.

pub mod action;
pub mod checkpoint;
pub mod config;
mod error;
pub mod image;
pub mod measure;
pub mod model;
pub mod ops;
pub mod step;
pub mod text;

pub use error::{Result, VlaError};
