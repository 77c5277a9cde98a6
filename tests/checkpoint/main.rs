//! Other tools' checkpoints: the values that those tools read from them, bit for bit; what is refused, and how it is named.

use test_support as support;

mod broken;
mod case;
mod configuration;
mod values;
