//! Follows values through a kernel's machine code: the instructions between a load of weights and
//! the multiplications.
//!
//! The listing is read upwards as if there were no jumps. That is exact if a load and its uses are
//! in one unrolled piece of code. A fragment whose load is not found is an error, not a guess.

use gpu_model::sass::Kernel;
use std::collections::{BTreeSet, HashMap};

/// The general registers that an instruction writes, and the index of the first one among its
/// operands.
struct Written {
    first: u32,
    count: u32,
    operand: usize,
}

/// The indices of the instructions that compute a value; `None` if it does not depend on weights.
type Made = Option<BTreeSet<usize>>;

/// Returns the number of a general register: 5 for `-R5.reuse`.
fn register(operand: &str) -> Option<u32> {
    let name = operand
        .trim_start_matches(['-', '~', '|', '!'])
        .strip_prefix('R')?;
    let end = name
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(name.len());
    name[..end].parse().ok()
}

fn opcode(instruction: &str) -> &str {
    instruction.split_whitespace().next().unwrap_or("")
}

fn has(instruction: &str, part: &str) -> bool {
    opcode(instruction).split('.').any(|have| have == part)
}

fn operands(instruction: &str) -> Vec<&str> {
    match instruction.split_once(char::is_whitespace) {
        Some((_, operands)) => operands.split(',').map(str::trim).collect(),
        None => Vec::new(),
    }
}

fn written(instruction: &str) -> Option<Written> {
    let name = opcode(instruction).split('.').next()?;
    if name.ends_with("SETP") || ["PLOP3", "R2P", "WARPSYNC", "RET"].contains(&name) {
        return None;
    }
    let operands = operands(instruction);
    // A predicate may come first: `LOP3.LUT P0, R5, ..`, `SHFL.BFLY PT, R4, ..`.
    let predicate = |operand: &&str| operand.trim_start_matches('!').starts_with('P');
    let operand = usize::from(operands.first().is_some_and(predicate));
    let first = register(operands.get(operand)?)?;
    let has = |part| has(instruction, part);
    let count = if name.ends_with("MMA") || has("128") || (name == "LDSM" && has("4")) {
        4
    } else if has("64")
        || has("WIDE")
        || (name == "LDSM" && has("2"))
        || (name == "CS2R" && !has("32"))
    {
        2
    } else {
        1
    };
    Some(Written {
        first,
        count,
        operand,
    })
}

struct Flow<'a> {
    kernel: &'a Kernel,
    written: Vec<Option<Written>>,
    known: HashMap<usize, Made>,
}

impl Flow<'_> {
    /// What a register's value is made by, at instruction `at`.
    fn made(&mut self, register: u32, at: usize) -> Made {
        let writes = |written: &Option<Written>| {
            written
                .as_ref()
                .is_some_and(|w| (w.first..w.first + w.count).contains(&register))
        };
        let writer = self.written[..at].iter().rposition(writes)?;
        if let Some(known) = self.known.get(&writer) {
            return known.clone();
        }
        let made = self.made_by(writer);
        self.known.insert(writer, made.clone());
        made
    }

    fn made_by(&mut self, writer: usize) -> Made {
        let instruction = &self.kernel.instructions[writer];
        let name = opcode(instruction).split('.').next()?;
        if ["LDG", "LDS"].contains(&name) {
            // Weights are what comes by 16 bytes: zero points, offsets and constants do not.
            return has(instruction, "128").then(BTreeSet::new);
        }
        if name.starts_with("LD") || name.ends_with("MMA") || name == "SHFL" {
            return None;
        }
        let sources = self.written[writer].as_ref()?.operand + 1;
        let mut made: Made = None;
        for source in operands(instruction)
            .iter()
            .skip(sources)
            .filter_map(|o| register(o))
        {
            if let Some(more) = self.made(source, writer) {
                made.get_or_insert_default().extend(more);
            }
        }
        made.map(|mut instructions| {
            instructions.insert(writer);
            instructions
        })
    }
}

/// The instructions that make the A fragments of all multiplications out of loaded weights, each
/// once.
pub fn unpacking(kernel: &Kernel) -> Result<Vec<&str>, String> {
    let mut flow = Flow {
        kernel,
        written: kernel
            .instructions
            .iter()
            .map(|text| written(text))
            .collect(),
        known: HashMap::new(),
    };
    let mut all = BTreeSet::new();
    for (at, text) in kernel.instructions.iter().enumerate() {
        if !opcode(text).contains("MMA") {
            continue;
        }
        let first = operands(text).get(1).and_then(|a| register(a));
        let first = first.ok_or_else(|| format!("no A operand in {text}"))?;
        // 16 x 32 s4 are two registers of a lane, all others that are used four.
        let count = if has(text, "S4") && has(text, "16832") {
            2
        } else {
            4
        };
        for register in first..first + count {
            let made = flow.made(register, at);
            all.extend(
                made.ok_or_else(|| format!("R{register} of {text} comes from no load of weights"))?,
            );
        }
    }
    Ok(all
        .into_iter()
        .map(|at| kernel.instructions[at].as_str())
        .collect())
}
