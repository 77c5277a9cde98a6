//! The way that a warp takes through a kernel's machine code, without running it: blocks of instructions, loops, and at each
//! branch the arm that a usual call takes.
//!
//! "Usual" is: what stands under a condition is executed, since some lane of the warp will meet it; of two alternatives the
//! one that multiplies, else the one without a call (divisions that need care), else the shorter: symmetric weights, aligned
//! rows. Warps that diverge on their own, and what only they run, are left out.

use crate::control_flow::{Graph, Loop, opcode};
use crate::pipes::Tally;
use crate::sass::Kernel;

/// What an inner loop, or one beside the main loop, is for: that is known by what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Quantizing octets.
    Quantize,
    /// Finding the extremes of a row; doing so for one row after the other.
    Scan,
    Rows,
    /// Fetching the factors of packed tokens.
    Factors,
    /// Adding the sums of groups.
    AddGroups,
    /// Writing y.
    Outputs,
    /// Anything else.
    Other,
}

/// How often a piece of the way is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    Once,
    /// In each iteration of the main loop.
    Main,
    /// In each iteration of this loop, inside the main loop or beside it. `unrolled`: units of work in an iteration.
    Loop {
        work: Work,
        inside: bool,
        unrolled: usize,
    },
}

/// Instructions of the way with the same number of repetitions.
#[derive(Debug)]
pub struct Piece {
    pub times: Times,
    pub tally: Tally,
}

/// A kernel's way from its first instruction to its last.
#[derive(Debug)]
pub struct Way {
    pub pieces: Vec<Piece>,
}

impl Way {
    /// # Errors
    /// If the kernel has no loop that multiplies.
    pub fn of(kernel: &Kernel) -> Result<Self, String> {
        let graph = Graph::of(kernel);
        let main = graph
            .main_loop()
            .ok_or_else(|| format!("{} {}: no loop multiplies", kernel.arch, kernel.name))?;
        Ok(graph.way(Some(main)))
    }

    /// Of a kernel that multiplies nothing.
    pub fn without_main_loop(kernel: &Kernel) -> Self {
        Graph::of(kernel).way(None)
    }

    /// What an iteration of the main loop takes, inner loops aside.
    pub fn iteration(&self) -> Tally {
        (self.pieces.iter())
            .filter(|piece| piece.times == Times::Main)
            .fold(Tally::default(), |sum, piece| sum + piece.tally)
    }
}

impl Graph<'_> {
    fn tally(&self, block: usize) -> Tally {
        self.blocks[block]
            .range
            .clone()
            .fold(Tally::default(), |sum, at| {
                sum + Tally::of(
                    opcode(&self.kernel.instructions[at]),
                    self.kernel.stalls[at],
                )
            })
    }

    fn total(&self, blocks: &[usize]) -> Tally {
        blocks
            .iter()
            .fold(Tally::default(), |sum, &block| sum + self.tally(block))
    }

    /// Instructions of an arm of the branch at `at`, those of its own loops as if each were taken eight times.
    fn length(&self, arm: &[usize], at: usize) -> f64 {
        let repeats = |block| match self.innermost(block) {
            Some(i) if !self.loops[i].blocks.contains(&at) => 8.0,
            _ => 1.0,
        };
        arm.iter()
            .map(|&block| repeats(block) * self.tally(block).instructions)
            .sum()
    }

    /// The blocks of the usual way from one to another.
    fn walk(&self, mut at: usize, stop: usize) -> Vec<usize> {
        let mut way = Vec::new();
        while at != stop {
            way.push(at);
            let meet = self.meets[at];
            let arms = self.forward[at].iter().map(|&arm| self.walk(arm, meet));
            let rank = |arm: &Vec<usize>| {
                let total = self.total(arm);
                let calls = arm.iter().any(|&block| self.blocks[block].calls);
                // Nothing at all is better than a call, and worse than anything else.
                let skips = arm.is_empty();
                (-total.mma, calls, skips, self.length(arm, at))
            };
            let best = arms.min_by(|a, b| rank(a).partial_cmp(&rank(b)).expect("none is NaN"));
            way.extend(best.unwrap_or_default());
            at = meet;
        }
        way
    }

    /// The loop on the usual way that multiplies most, of those the smallest.
    fn main_loop(&self) -> Option<usize> {
        let way = self.walk(0, self.blocks.len());
        let mma = |l: &Loop| {
            let blocks: Vec<usize> = l.blocks.iter().copied().collect();
            self.total(&blocks).mma
        };
        (0..self.loops.len())
            .filter(|&i| way.contains(&self.loops[i].head) && mma(&self.loops[i]) > 0.0)
            .max_by(|&a, &b| {
                let key = |i: usize| (mma(&self.loops[i]), -(self.loops[i].blocks.len() as f64));
                key(a).partial_cmp(&key(b)).expect("none is NaN")
            })
    }

    fn way(&self, main: Option<usize>) -> Way {
        let way = self.walk(0, self.blocks.len());
        let mut pieces: Vec<(Option<usize>, Tally)> = Vec::new();
        for block in way {
            let within = self.innermost(block);
            match pieces.iter_mut().find(|(known, _)| *known == within) {
                Some((_, tally)) => *tally = *tally + self.tally(block),
                None => pieces.push((within, self.tally(block))),
            }
        }
        let pieces = pieces.into_iter().map(|(within, tally)| Piece {
            times: match within {
                None => Times::Once,
                Some(i) if Some(i) == main => Times::Main,
                Some(i) => self.times(i, main),
            },
            tally,
        });
        Way {
            pieces: pieces.collect(),
        }
    }

    fn times(&self, inner: usize, main: Option<usize>) -> Times {
        let own = &self.loops[inner];
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
        let (stores, loads, extremes) = (
            count(&["STS"]),
            count(&["LDG"]),
            count(&["HMNMX2", "VHMNMX"]),
        );
        // A code is a multiplication, and an octet has eight.
        let octets = count(&["FMUL"]) / 8;
        let (work, unrolled) = if octets > 0 && stores + count(&["STG"]) > 0 {
            (Work::Quantize, octets)
        } else if extremes > 0 && loads > 0 {
            (if stores > 0 { Work::Rows } else { Work::Scan }, 1)
        } else if inside && stores > 0 && loads > 0 && count(&["FADD"]) > 0 {
            (Work::Factors, loads)
        } else if inside && stores == 0 && count(&["LDS"]) > 0 && count(&["FFMA", "FADD"]) > 0 {
            // The source says so.
            (Work::AddGroups, 4)
        } else if !inside && count(&["STG"]) > 0 {
            (Work::Outputs, 1)
        } else {
            (Work::Other, 1)
        };
        Times::Loop {
            work,
            inside,
            unrolled,
        }
    }
}
