//! Row operations and activations of several GEMMs, from C and C++.

use crate::program::{BUILDS, Program, run_silently, source};

#[test]
fn fused_calls_have_the_bits_of_unfused_ones() {
    for (language, link) in BUILDS {
        let program = Program::build(&source("row_op.c"), language, link, &[]);
        run_silently(&mut program.command(&[]));
    }
}
