//! The trace of a usual call: the instructions that a warp executes, found in the machine code
//! without running it.
//!
//! A trace passes through basic blocks and loops and takes one arm of each branch:
//! - code under a condition is executed, because some lane of the warp meets the condition;
//! - of two alternatives, the arm that multiplies, otherwise the arm without a function call (slow
//!   paths of divisions), otherwise the shorter arm (symmetric weights, aligned rows, groups of 128
//!   of two-level weights).
//!
//! Code that only diverged warps execute is left out.

use crate::control_flow::{ControlFlow, Loop, opcode};
use crate::error::{Error, Result};
use crate::pipes::Tally;
use crate::sass::Kernel;

/// The work of a loop other than the main loop, recognized by its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Work {
    /// Quantizes octets of activations.
    Quantize,
    /// Finds the extremes of a row.
    Scan,
    /// Finds the extremes of one row after the other.
    Rows,
    /// Loads the scales and sums of quantized activations.
    Factors,
    /// Adds the sums of groups.
    AddGroups,
    /// Writes y.
    Outputs,
    /// Any other work.
    Other,
}

/// How often a section of a trace is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Once per kernel.
    Once,
    /// In each iteration of the main loop.
    Main,
    /// In each iteration of another loop.
    Loop {
        /// What the loop does.
        work: Work,
        /// Whether the loop is inside the main loop.
        inside: bool,
        /// Units of work in an iteration.
        unrolled: usize,
    },
}

/// The instructions of a trace that are executed equally often.
#[derive(Debug)]
pub struct Section {
    /// How often they are executed.
    pub repeat: Repeat,
    /// The instructions, each counted once.
    pub tally: Tally,
}

/// The instructions that a warp executes from the first to the last.
#[derive(Debug)]
pub struct Trace {
    /// The sections, in order of their first instruction.
    pub sections: Vec<Section>,
}

impl Trace {
    /// Returns the trace of a GEMM kernel.
    ///
    /// # Errors
    /// [`Error::NoMainLoop`] if no loop of the kernel multiplies matrices.
    pub fn new(kernel: &Kernel) -> Result<Self> {
        let graph = ControlFlow::new(kernel);
        let main = graph.main_loop().ok_or_else(|| Error::NoMainLoop {
            arch: kernel.arch.clone(),
            name: kernel.name.clone(),
        })?;
        Ok(graph.trace(Some(main)))
    }

    /// Returns the trace of a kernel that multiplies no matrices.
    pub fn without_main_loop(kernel: &Kernel) -> Self {
        ControlFlow::new(kernel).trace(None)
    }

    /// Returns the tally of one iteration of the main loop, without its inner loops.
    pub fn iteration(&self) -> Tally {
        (self.sections.iter())
            .filter(|section| section.repeat == Repeat::Main)
            .map(|section| section.tally)
            .sum()
    }
}

impl ControlFlow<'_> {
    fn tally(&self, block: usize) -> Tally {
        (self.blocks[block].range.clone())
            .map(|at| {
                Tally::of(
                    opcode(&self.kernel.instructions[at]),
                    self.kernel.stalls[at],
                )
            })
            .sum()
    }

    fn total(&self, blocks: &[usize]) -> Tally {
        blocks.iter().map(|&block| self.tally(block)).sum()
    }

    /// Returns the instructions of an arm of the branch at block `at`. Loops that begin in the arm
    /// count as eight iterations.
    fn length(&self, arm: &[usize], at: usize) -> f64 {
        let repeats = |block| match self.innermost_loop(block) {
            Some(i) if !self.loops[i].blocks.contains(&at) => 8.0,
            _ => 1.0,
        };
        arm.iter()
            .map(|&block| repeats(block) * self.tally(block).instructions)
            .sum()
    }

    /// Returns the blocks of the trace from block `at` up to, and without, block `stop`.
    fn walk(&self, mut at: usize, stop: usize) -> Vec<usize> {
        let mut trace = Vec::new();
        while at != stop {
            trace.push(at);
            let meet = self.post_dominators[at];
            let arms = self.forward[at].iter().map(|&arm| self.walk(arm, meet));
            let rank = |arm: &Vec<usize>| {
                let total = self.total(arm);
                let calls = arm.iter().any(|&block| self.blocks[block].calls);
                // An empty arm is preferred to a call only.
                let skips = arm.is_empty();
                (total.mma == 0.0, calls, skips, self.length(arm, at))
            };
            let best =
                arms.min_by(|a, b| rank(a).partial_cmp(&rank(b)).expect("ranks are not NaN"));
            trace.extend(best.unwrap_or_default());
            at = meet;
        }
        trace
    }

    /// Returns the loop on the trace with the most matrix multiplications; the smallest one of
    /// several.
    fn main_loop(&self) -> Option<usize> {
        let trace = self.walk(0, self.blocks.len());
        let mma = |l: &Loop| {
            let blocks: Vec<usize> = l.blocks.iter().copied().collect();
            self.total(&blocks).mma
        };
        (0..self.loops.len())
            .filter(|&i| trace.contains(&self.loops[i].head) && mma(&self.loops[i]) > 0.0)
            .max_by(|&a, &b| {
                let key = |i: usize| (mma(&self.loops[i]), -(self.loops[i].blocks.len() as f64));
                key(a).partial_cmp(&key(b)).expect("counts are not NaN")
            })
    }

    fn trace(&self, main: Option<usize>) -> Trace {
        let mut tallies: Vec<(Option<usize>, Tally)> = Vec::new();
        for block in self.walk(0, self.blocks.len()) {
            let within = self.innermost_loop(block);
            match tallies.iter_mut().find(|(known, _)| *known == within) {
                Some((_, tally)) => *tally = *tally + self.tally(block),
                None => tallies.push((within, self.tally(block))),
            }
        }
        let sections = tallies.into_iter().map(|(within, tally)| Section {
            repeat: match within {
                None => Repeat::Once,
                Some(i) if Some(i) == main => Repeat::Main,
                Some(i) => self.repeat(i, main),
            },
            tally,
        });
        Trace {
            sections: sections.collect(),
        }
    }

    /// Classifies a loop other than the main loop.
    fn repeat(&self, index: usize, main: Option<usize>) -> Repeat {
        let own = &self.loops[index];
        let count = |names: &[&str]| {
            (own.blocks.iter())
                .flat_map(|&block| self.blocks[block].range.clone())
                .filter(|&at| {
                    let name = opcode(&self.kernel.instructions[at]);
                    names.contains(&name.split('.').next().unwrap_or(""))
                })
                .count()
        };
        let inside = main.is_some_and(|main| self.loops[main].blocks.contains(&own.head));
        let (stores, loads) = (count(&["STS"]), count(&["LDG"]));
        let extremes = count(&["HMNMX2", "VHMNMX"]);
        // A code takes one multiplication, an octet eight.
        let octets = count(&["FMUL"]) / 8;
        let (work, unrolled) = if octets > 0 && stores + count(&["STG"]) > 0 {
            (Work::Quantize, octets)
        } else if extremes > 0 && loads > 0 {
            (if stores > 0 { Work::Rows } else { Work::Scan }, 1)
        } else if inside && stores > 0 && loads > 0 && count(&["FADD"]) > 0 {
            (Work::Factors, loads)
        } else if inside && stores == 0 && count(&["LDS"]) > 0 && count(&["FFMA", "FADD"]) > 0 {
            // By the unroll pragma of the kernel's source.
            (Work::AddGroups, 4)
        } else if !inside && count(&["STG"]) > 0 {
            (Work::Outputs, 1)
        } else {
            (Work::Other, 1)
        };
        Repeat::Loop {
            work,
            inside,
            unrolled,
        }
    }
}
