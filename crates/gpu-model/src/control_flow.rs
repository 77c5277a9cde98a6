//! The control-flow graph of machine code: basic blocks, loops and immediate post-dominators.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::sass::Kernel;

/// Instructions that are executed from first to last.
#[derive(Debug)]
pub struct BasicBlock {
    /// Indices of the instructions.
    pub range: Range<usize>,
    /// Blocks that may follow.
    pub successors: Vec<usize>,
    /// Whether the block ends with a function call.
    pub calls: bool,
}

/// A natural loop.
#[derive(Debug)]
pub struct Loop {
    /// The block that the loop begins with.
    pub head: usize,
    /// All blocks of the loop, including the head.
    pub blocks: BTreeSet<usize>,
}

/// The control-flow graph of a kernel, with blocks in the order of its listing.
#[derive(Debug)]
pub struct ControlFlow<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Its basic blocks.
    pub blocks: Vec<BasicBlock>,
    /// Its loops.
    pub loops: Vec<Loop>,
    /// The successors of each block without back edges. A block whose only successor is a loop's
    /// head gets the exits of the loop instead.
    pub forward: Vec<Vec<usize>>,
    /// The immediate post-dominator of each block. The number of blocks stands for the end of the
    /// kernel.
    pub post_dominators: Vec<usize>,
    /// Depth of each block in the tree of post-dominators; 0 for the end.
    depths: Vec<usize>,
}

/// Returns the opcode of an instruction with its modifiers.
pub fn opcode(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or("")
}

/// Returns the index of the instruction that a branch such as `BRA P2, 0x4c0` leads to.
fn target(text: &str) -> Option<usize> {
    let address = text.rsplit([' ', ',']).next()?.strip_prefix("0x")?;
    Some(usize::from_str_radix(address, 16).ok()? / 16)
}

/// Where a control instruction continues.
struct Jump {
    successors: Vec<usize>,
    calls: bool,
}

/// Returns where an instruction continues, or `None` if it always continues with the next one.
fn jump(kernel: &Kernel, at: usize) -> Option<Jump> {
    let (text, guarded) = (&kernel.instructions[at], kernel.guarded[at]);
    let name = opcode(text);
    let branch = |taken: Option<usize>, conditional: bool| {
        let next = conditional.then_some(at + 1);
        Some(Jump {
            successors: next.into_iter().chain(taken).collect(),
            calls: false,
        })
    };
    match name.split('.').next().unwrap_or("") {
        // Diverged warps only.
        "BRA" if name.contains(".DIV") => branch(None, true),
        "BRA" => branch(target(text), guarded || text.contains(',')),
        // A guarded call has no return address set up: it is a jump.
        "CALL" if guarded => branch(target(text), true),
        "CALL" => Some(Jump {
            successors: vec![at + 1],
            calls: true,
        }),
        "EXIT" | "RET" | "BRX" => branch(None, guarded),
        _ => None,
    }
}

/// The result of a depth-first search from the first block.
struct Search {
    /// Blocks in the order in which the search left them.
    finished: Vec<usize>,
    /// Edges to a block that the search had not left yet: they close loops.
    back: Vec<(usize, usize)>,
}

impl<'a> ControlFlow<'a> {
    /// Builds the control-flow graph of a kernel.
    pub fn new(kernel: &'a Kernel) -> Self {
        let mut graph = Self {
            kernel,
            blocks: basic_blocks(kernel),
            loops: Vec::new(),
            forward: Vec::new(),
            post_dominators: Vec::new(),
            depths: Vec::new(),
        };
        let search = graph.search();
        graph.find_loops(&search);
        graph.cut_back_edges(&search.back);
        graph.find_post_dominators(&search.finished);
        graph
    }

    fn search(&self) -> Search {
        let count = self.blocks.len();
        let (mut open, mut done) = (vec![false; count], vec![false; count]);
        let (mut finished, mut back) = (Vec::new(), Vec::new());
        let mut stack = vec![(0, 0)];
        open[0] = true;
        while let Some((block, i)) = stack.pop() {
            if let Some(&next) = self.blocks[block].successors.get(i) {
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
        Search { finished, back }
    }

    fn find_loops(&mut self, search: &Search) {
        let mut predecessors = vec![Vec::new(); self.blocks.len()];
        for &block in &search.finished {
            for &next in &self.blocks[block].successors {
                predecessors[next].push(block);
            }
        }
        for &(tail, head) in &search.back {
            let mut blocks = BTreeSet::from([head]);
            let mut waiting = vec![tail];
            while let Some(block) = waiting.pop() {
                if blocks.insert(block) {
                    waiting.extend(&predecessors[block]);
                }
            }
            match self.loops.iter_mut().find(|l| l.head == head) {
                Some(known) => known.blocks.extend(blocks),
                None => self.loops.push(Loop { head, blocks }),
            }
        }
    }

    /// Fills `forward`: removes the back edges and connects blocks without another successor to the
    /// exits of their loop.
    fn cut_back_edges(&mut self, back: &[(usize, usize)]) {
        self.forward = (self.blocks.iter())
            .map(|block| block.successors.clone())
            .collect();
        for &(tail, head) in back {
            self.forward[tail].retain(|&next| next != head);
        }
        for &(tail, head) in back {
            if self.forward[tail].is_empty() {
                let own = (self.loops.iter())
                    .find(|l| l.head == head)
                    .expect("every back edge has a loop");
                let exits: BTreeSet<usize> = (own.blocks.iter())
                    .flat_map(|&block| self.forward[block].iter().copied())
                    .filter(|next| !own.blocks.contains(next))
                    .collect();
                self.forward[tail] = exits.into_iter().collect();
            }
        }
    }

    fn find_post_dominators(&mut self, reached: &[usize]) {
        let count = self.blocks.len();
        self.post_dominators = vec![count; count + 1];
        self.depths = vec![0; count + 1];
        for block in self.successors_first(reached) {
            let meet = (self.forward[block].iter().copied())
                .reduce(|a, b| self.common_post_dominator(a, b))
                .unwrap_or(count);
            self.post_dominators[block] = meet;
            self.depths[block] = self.depths[meet] + 1;
        }
    }

    /// Returns the reached blocks, each after all of its successors.
    fn successors_first(&self, reached: &[usize]) -> Vec<usize> {
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

    fn common_post_dominator(&self, mut a: usize, mut b: usize) -> usize {
        while a != b {
            if self.depths[a] >= self.depths[b] {
                a = self.post_dominators[a];
            } else {
                b = self.post_dominators[b];
            }
        }
        a
    }

    /// Returns the index of the smallest loop around a block.
    pub fn innermost_loop(&self, block: usize) -> Option<usize> {
        (0..self.loops.len())
            .filter(|&i| self.loops[i].blocks.contains(&block))
            .min_by_key(|&i| self.loops[i].blocks.len())
    }
}

fn basic_blocks(kernel: &Kernel) -> Vec<BasicBlock> {
    let count = kernel.instructions.len();
    let mut starts = BTreeSet::from([0]);
    for at in 0..count {
        if let Some(jump) = jump(kernel, at) {
            starts.extend(jump.successors);
            starts.insert(at + 1);
        }
    }
    starts.retain(|&at| at < count);
    let starts: Vec<usize> = starts.into_iter().collect();
    let index = |at: usize| starts.binary_search(&at).ok();
    (starts.iter().enumerate())
        .map(|(i, &start)| {
            let end = starts.get(i + 1).copied().unwrap_or(count);
            let jump = jump(kernel, end - 1).unwrap_or_else(|| Jump {
                successors: vec![end],
                calls: false,
            });
            BasicBlock {
                range: start..end,
                successors: jump.successors.into_iter().filter_map(index).collect(),
                calls: jump.calls,
            }
        })
        .collect()
}
