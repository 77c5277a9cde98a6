//! Images: decoding, resizing and normalization, byte for byte as the models were trained.
//!
//! # Order of calls
//! 1. [`RgbImage::open`] or [`RgbImage::decode`] reads a PNG or JPEG file, and
//!    [`RgbImage::from_channels`] takes the bytes of an array.
//! 2. [`libero::LiberoClient::prepare`] does what the evaluation clients of the LIBERO simulator
//!    do with a camera picture. An image for a model without such a client skips this step.
//! 3. [`ImageProcessor::pixel_values`] resizes and normalizes, once per vision tower.
//!
//! # Formulas
//! | step | reference | module |
//! | --- | --- | --- |
//! | resize to the size of the towers | Pillow <= 12.3, `Image.resize` with `BICUBIC` | [`pillow`] |
//! | letterbox, resize-crop | the Prismatic image processor | [`ResizeStrategy`] |
//! | `(x / 255 - mean) / std` in f32 | torchvision | [`Normalization`] |
//! | JPEG, Lanczos, crop | TensorFlow 2.15 | [`libero`] |
//!
//! # Failure behavior
//! An image has at least one pixel; an empty one is an error when it is made. Resizing an image and
//! normalizing it cannot fail after that.
//!
//! # Cost
//! From 640x480 to 224x224 about two milliseconds on one core. Memory does not grow with the aspect
//! ratio of the input: padding is not materialized, and rows that a crop drops are not computed.

mod jpeg;
mod lanczos;
pub mod libero;
pub mod pillow;
mod processor;
mod rgb;
mod strategy;

pub use processor::{ImageProcessor, Normalization, PixelTable};
pub use rgb::RgbImage;
pub use strategy::ResizeStrategy;
