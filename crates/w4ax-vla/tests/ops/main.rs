//! The operations against plain loops in F64, on random shapes.

mod attention;
mod linear;
mod rowwise;
mod support;
