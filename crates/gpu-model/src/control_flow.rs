//! Machine code as blocks of instructions, the loops among them, and where the ways from a branch meet again.

use crate::sass::Kernel;
use std::collections::BTreeSet;
use std::ops::Range;

/// Instructions that are executed from first to last.
pub struct Block {
    pub range: Range<usize>,
    pub next: Vec<usize>,
    /// Calls a function, which no usual call does.
    pub calls: bool,
}

/// Blocks that are executed again and again.
pub struct Loop {
    pub head: usize,
    pub blocks: BTreeSet<usize>,
}

/// A kernel's blocks, in the order of its listing.
pub struct Graph<'a> {
    pub kernel: &'a Kernel,
    pub blocks: Vec<Block>,
    pub loops: Vec<Loop>,
    /// Each block's successors once loops are cut where they begin again: they lead on behind the loop instead.
    pub forward: Vec<Vec<usize>>,
    /// Where all ways from a block meet again; the number of blocks stands for the end.
    pub meets: Vec<usize>,
    /// 0 for the end, more the farther from it.
    distance: Vec<usize>,
}

pub fn opcode(text: &str) -> &str {
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
    pub fn of(kernel: &'a Kernel) -> Self {
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

    /// The smallest loop around a block.
    pub fn innermost(&self, block: usize) -> Option<usize> {
        (0..self.loops.len())
            .filter(|&i| self.loops[i].blocks.contains(&block))
            .min_by_key(|&i| self.loops[i].blocks.len())
    }
}
