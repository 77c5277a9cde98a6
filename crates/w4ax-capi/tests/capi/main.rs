//! The C ABI: the headers compared with Rust, and C and C++ programs linked with the libraries.
//!
//! A test whose tool is missing fails, unless `W4AX_ALLOW_MISSING_TOOLS=1`.

mod abi;
mod client;
mod consistency;
mod dispatch;
mod gemm;
mod memory;
mod misuse;
mod order;
mod program;
mod row_op;

/// bf16 has the size and alignment of `uint16_t`, its type in the headers.
const _: () = assert!(size_of::<half::bf16>() == 2 && align_of::<half::bf16>() == 2);
