//! Checkpoints of other tools: values equal to those of the tools bit for bit, and errors that name
//! what is invalid.

use test_support as support;

mod broken;
mod case;
mod configuration;
mod plain;
mod values;
