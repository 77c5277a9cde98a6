//! Inputs that tests of several crates share. Random ones are seeded.

mod allocations;
mod checkpoint;
mod dispatcher;
mod inputs;
mod normal;
mod skip_file;
mod tensor_file;
mod tools;
mod vla;

pub use allocations::{
    CountingAllocator, HeapBytes, MeasuringAllocator, allocations, allocations_of, heap_of,
};
pub use checkpoint::{plain_checkpoint, write_checkpoint};
pub use dispatcher::{dispatch_config, dispatcher};
pub use inputs::{Kind, PlainWeight, WEIGHTS, WIDTHS, bits, rng};
pub use normal::{normal, normal_values, normal_weight};
pub use skip_file::random_skip_file;
pub use tensor_file::TensorFile;
pub use tools::leave_out;
pub use vla::{oft_folder, openvla_copy, openvla_folder, vla_data};
