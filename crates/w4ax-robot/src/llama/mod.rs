//! A decoder layer of Llama's shape on candle, its projections packed.

pub mod layer;
pub mod steps;
pub mod weights;

/// A result with any error.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
