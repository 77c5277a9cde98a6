//! The order of weight loads in the machine code of decode kernels.
//!
//! Positions are those of the listing. A kernel's prologue has no jumps over its loads, and the
//! instructions of a round follow one another, its branches included.

use gpu_model::control_flow::{ControlFlow, opcode};
use gpu_model::sass::Kernel;

fn has(instruction: &str, parts: &[&str]) -> bool {
    let opcode = opcode(instruction);
    (parts.iter()).all(|part| opcode.split('.').any(|have| have == *part))
}

/// Weights alone bypass the L1 cache.
fn loads_weights(instruction: &str) -> bool {
    has(instruction, &["LDG", "NA", "128"])
}

fn multiplies(instruction: &str) -> bool {
    opcode(instruction).contains("MMA")
}

/// Checks that a kernel has issued the loads of its first round when it waits for the previous
/// launch (`griddepcontrol.wait`). `rounds` is the number of its mainloops, one per width.
pub fn loads_before_the_wait(kernel: &Kernel, rounds: usize) -> Result<(), String> {
    let instructions = &kernel.instructions;
    let wait = (instructions.iter())
        .position(|text| opcode(text) == "ACQBULK")
        .ok_or("it does not wait for the previous launch")?;
    let count = |range: &[String]| range.iter().filter(|text| loads_weights(text)).count();
    let (before, after) = (count(&instructions[..wait]), count(&instructions[wait..]));
    // Each mainloop loads as many tiles for the next round as the prologue for the first.
    if before > 0 && before * rounds == after {
        return Ok(());
    }
    Err(format!(
        "{before} loads of weights before the wait, {after} after it in {rounds} mainloops"
    ))
}

/// Checks that each mainloop loads the next round's weights before it multiplies this round's.
/// `is_late` excludes mainloops by their multiplication. Returns the number of mainloops checked.
pub fn loads_before_the_products(
    kernel: &Kernel,
    is_late: impl Fn(&str) -> bool,
) -> Result<usize, String> {
    let flow = ControlFlow::new(kernel);
    let mut checked = 0;
    for found in &flow.loops {
        let all: Vec<usize> = (found.blocks.iter())
            .flat_map(|&block| flow.blocks[block].range.clone())
            .collect();
        let first = |what: fn(&str) -> bool| {
            (all.iter().copied()).find(|&at| what(&kernel.instructions[at]))
        };
        let (Some(product), Some(load)) = (first(multiplies), first(loads_weights)) else {
            continue;
        };
        if is_late(&kernel.instructions[product]) {
            continue;
        }
        if load > product {
            return Err(format!(
                "the mainloop from {} on multiplies at {product} and loads weights at {load}",
                all[0]
            ));
        }
        checked += 1;
    }
    Ok(checked)
}
