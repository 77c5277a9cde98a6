//! The configuration of a checkpoint.
//!
//! | type | file | what |
//! | --- | --- | --- |
//! | [`ModelConfig`] | `config.json` | sizes of the language model, action bins, vision towers |
//! | [`ProcessorConfig`] | `preprocessor_config.json` | how an image is resized and normalized |
//! | [`NormStats`] | `dataset_statistics.json`, `config.json` | ranges of actions and states |
//!
//! Each `load` takes the folder of the checkpoint. A value that this crate does not support is an
//! error that names file, field and value; no field that changes the model's results is ignored.

mod json;
mod model;
mod processor;
mod stats;

pub use model::{LlamaConfig, ModelConfig};
pub use processor::ProcessorConfig;
pub use stats::{DatasetStats, NormStats, Stats};
