//! The way that a warp takes through a kernel's machine code, without running it: blocks of instructions, loops, and at each
//! branch the arm that a usual call takes.
//!
//! "Usual" is: what stands under a condition is executed, since some lane of the warp will meet it; of two alternatives the
//! one that multiplies, else the one without a call (divisions that need care), else the shorter: symmetric weights, aligned
//! rows. Warps that diverge on their own, and what only they run, are left out.

use crate::pipes::Tally;
use crate::sass::Kernel;
use std::collections::BTreeSet;
use std::ops::Range;

/// Instructions that are executed from first to last.
struct Block {
    range: Range<usize>,
    next: Vec<usize>,
    /// Calls a function, which no usual call does.
    calls: bool,
}

/// Blocks that are executed again and again.
struct Loop {
    head: usize,
    blocks: BTreeSet<usize>,
}

/// What an inner loop, or one beside the main loop, is for: that is known by what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Quantising octets.
    Quantise,
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

struct Graph<'a> {
    kernel: &'a Kernel,
    blocks: Vec<Block>,
    loops: Vec<Loop>,
    /// Each block's successors once loops are cut where they begin again: they lead on behind the loop instead.
    forward: Vec<Vec<usize>>,
    /// Where all ways from a block meet again; the number of blocks stands for the end.
    meets: Vec<usize>,
    /// 0 for the end, more the farther from it.
    distance: Vec<usize>,
}

fn opcode(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or("")
}

/// The address at the end of `BRA P2, 0x4c0`, as an instruction's number.
fn target(text: &str) -> Option<usize> {
    let address = text.rsplit([' ', ',']).next()?.strip_prefix("0x")?;
    Some(usize::from_str_radix(address, 16).ok()? / 16)
}

/// Where an instruction may go on, and whether it calls. `None`: at the next one.
fn leads_to(kernel: &Kernel, at: usize) -> Option<(Vec<usize>, bool)> {
    let (text, guarded) = (&kernel.instructions[at], kernel.guarded[at]);
    let name = opcode(text);
    let after = |taken: Option<usize>, conditional: bool| {
        let mut next: Vec<usize> = if conditional {
            vec![at + 1]
        } else {
            Vec::new()
        };
        next.extend(taken);
        Some((next, false))
    };
    match name.split('.').next().unwrap_or("") {
        // Taken by warps that have diverged.
        "BRA" if name.contains(".DIV") => after(None, true),
        "BRA" => after(target(text), guarded || text.contains(',')),
        // Under a condition it is a jump without return: nothing has been left to return to.
        "CALL" if guarded => after(target(text), true),
        "CALL" => Some((vec![at + 1], true)),
        "EXIT" | "RET" | "BRX" => after(None, guarded),
        _ => None,
    }
}

impl<'a> Graph<'a> {
    fn of(kernel: &'a Kernel) -> Self {
        let count = kernel.instructions.len();
        let mut starts = BTreeSet::from([0]);
        for at in 0..count {
            if let Some((next, _)) = leads_to(kernel, at) {
                starts.extend(next);
                starts.insert(at + 1);
            }
        }
        starts.retain(|&at| at < count);
        let starts: Vec<usize> = starts.into_iter().collect();
        let number = |at: usize| starts.binary_search(&at).ok();
        let blocks: Vec<Block> = (starts.iter().enumerate())
            .map(|(i, &start)| {
                let end = starts.get(i + 1).copied().unwrap_or(count);
                let (next, calls) = leads_to(kernel, end - 1).unwrap_or((vec![end], false));
                Block {
                    range: start..end,
                    next: next.into_iter().filter_map(number).collect(),
                    calls,
                }
            })
            .collect();
        let mut graph = Self {
            kernel,
            blocks,
            loops: Vec::new(),
            forward: Vec::new(),
            meets: Vec::new(),
            distance: Vec::new(),
        };
        graph.find_loops();
        graph
    }

    /// Depth first from the beginning: an edge to a block that is not finished closes a loop.
    fn find_loops(&mut self) {
        let count = self.blocks.len();
        let (mut open, mut done) = (vec![false; count], vec![false; count]);
        let (mut finished, mut back) = (Vec::new(), Vec::new());
        let mut stack = vec![(0, 0)];
        open[0] = true;
        while let Some((block, i)) = stack.pop() {
            if let Some(&next) = self.blocks[block].next.get(i) {
                stack.push((block, i + 1));
                if open[next] {
                    back.push((block, next));
                } else if !done[next] {
                    open[next] = true;
                    stack.push((next, 0));
                }
            } else {
                open[block] = false;
                done[block] = true;
                finished.push(block);
            }
        }
        let mut before = vec![Vec::new(); count];
        for &block in &finished {
            for &next in &self.blocks[block].next {
                before[next].push(block);
            }
        }
        for &(tail, head) in &back {
            let mut blocks = BTreeSet::from([head]);
            let mut waiting = vec![tail];
            while let Some(block) = waiting.pop() {
                if blocks.insert(block) {
                    waiting.extend(&before[block]);
                }
            }
            match self.loops.iter_mut().find(|l| l.head == head) {
                Some(known) => known.blocks.extend(blocks),
                None => self.loops.push(Loop { head, blocks }),
            }
        }
        self.forward = self.blocks.iter().map(|block| block.next.clone()).collect();
        for &(tail, head) in &back {
            self.forward[tail].retain(|&next| next != head);
        }
        for &(tail, head) in &back {
            if self.forward[tail].is_empty() {
                let own = self
                    .loops
                    .iter()
                    .find(|l| l.head == head)
                    .expect("each has one");
                let out: BTreeSet<usize> = (own.blocks.iter())
                    .flat_map(|&block| self.forward[block].iter().copied())
                    .filter(|next| !own.blocks.contains(next))
                    .collect();
                self.forward[tail] = out.into_iter().collect();
            }
        }
        self.meets = vec![count; count + 1];
        self.distance = vec![0; count + 1];
        for block in self.sorted(&finished) {
            let meet = (self.forward[block].iter().copied())
                .reduce(|a, b| self.common(a, b))
                .unwrap_or(count);
            self.meets[block] = meet;
            self.distance[block] = self.distance[meet] + 1;
        }
    }

    /// Each reached block behind all that it leads to.
    fn sorted(&self, reached: &[usize]) -> Vec<usize> {
        let mut seen = vec![false; self.blocks.len()];
        let mut order = Vec::new();
        for &from in reached {
            let mut stack = vec![(from, 0)];
            while let Some((block, i)) = stack.pop() {
                if i == 0 && std::mem::replace(&mut seen[block], true) {
                    continue;
                }
                match self.forward[block].get(i) {
                    Some(&next) => {
                        stack.push((block, i + 1));
                        if !seen[next] {
                            stack.push((next, 0));
                        }
                    }
                    None => order.push(block),
                }
            }
        }
        order
    }

    fn common(&self, mut a: usize, mut b: usize) -> usize {
        while a != b {
            if self.distance[a] >= self.distance[b] {
                a = self.meets[a];
            } else {
                b = self.meets[b];
            }
        }
        a
    }

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

    fn innermost(&self, block: usize) -> Option<usize> {
        (0..self.loops.len())
            .filter(|&i| self.loops[i].blocks.contains(&block))
            .min_by_key(|&i| self.loops[i].blocks.len())
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

    /// The loop that multiplies most, of those the smallest.
    fn main_loop(&self) -> Option<usize> {
        let mma = |l: &Loop| {
            let blocks: Vec<usize> = l.blocks.iter().copied().collect();
            self.total(&blocks).mma
        };
        (0..self.loops.len())
            .filter(|&i| mma(&self.loops[i]) > 0.0)
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
            (Work::Quantise, octets)
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
