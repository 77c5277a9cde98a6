//! Runs OpenVLA and OpenVLA-OFT: images and an instruction become a robot's action, at the
//! activation width of each control step.
//!
//! Every linear layer of the language model is a W4AX GEMM at the width of the step. Vision towers,
//! projector and heads are BF16 unless they are packed too ([`model::LoadOptions`]).
//!
//! ```text
//! actions -> dispatcher -> flag -> latch ---------------+
//!                                                       v
//! images -> image -> towers, projector --+-> Llama-2 (W4AX) -> action -> robot
//! instruction -> text -------------------+
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`image`] | decoding, and the preprocessing of Pillow and TensorFlow, byte for byte |
//! | [`text`] | the prompt and its token ids |
//! | [`config`] | configuration files and statistics of data sets |
//! | [`action`] | tokens to numbers, and numbers to the units of a data set |
//! | [`checkpoint`] | where weights come from |
//! | [`ops`] | operations on candle's tensors beside the GEMMs |
//! | [`model`] | the networks |
//! | [`step`] | control steps |
//! | [`measure`] | memory and times of a model of full size |
//!
//! # Order of calls
//! [`model::Vla::load`] once, [`step::VlaRunner::new`] once, then per control step
//! [`step::VlaRunner::decide`] with the actions that the robot was given, and
//! [`step::VlaRunner::step`].
//!
//! ```no_run
//! use w4ax::calibrate::Calibration;
//! use w4ax::dispatch::Dispatcher;
//! use w4ax::step::StepOptions;
//! use w4ax_vla::image::RgbImage;
//! use w4ax_vla::model::{LoadOptions, Observation, Vla};
//! use w4ax_vla::step::VlaRunner;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = Vla::load("openvla-7b", &LoadOptions::default(), &mut |progress| {
//!     eprintln!("{} of {}", progress.done, progress.total);
//! })?;
//! let config = Calibration::load("calibration.json")?.dispatch_config("spoon")?;
//! let mut runner = VlaRunner::new(model, Dispatcher::new(&config)?, StepOptions::default())?;
//! loop {
//!     let image = RgbImage::open("camera.png")?;
//!     let observation = Observation::new(vec![image], "put the spoon on the towel")
//!         .with_unnorm_key("bridge_orig");
//!     let step = runner.step(&observation)?;
//!     println!("{:?} at {}", step.actions, step.report.prefill);
//!     runner.decide(&step.normalized, step.dims)?; // The width of the next step.
//! #   break;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Failure behavior
//! Every failure is a [`VlaError`] that names the file, the tensor or the input, with what was
//! found and what is expected. A model that does not fit the memory is an error before anything is
//! loaded. A step that fails returns its error; the next step starts from an empty cache.
//!
//! # Results
//! Results depend neither on the number of threads nor on the step before. On one instruction set
//! they are the same in every run.

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
