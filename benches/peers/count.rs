//! Calls one contender on one thread. scripts/count-instructions runs this under an instruction
//! counter.

use w4ax::Width;
use w4ax::cpu::{Cpu, Serial};

use crate::Result;
use crate::contenders::{PEERS, ours, pack, peer_ring, quantize, ring, theirs, values};

/// N and K; small, because the counter is slow.
const SIDE: usize = 1024;

/// Calls a contender (`a2`, `a4`, `a8`, `bf16`, `Q4_0`, `Q4_K` or `Q8_0`) and prints the products
/// of one call.
pub fn run(name: &str, m: usize, calls: usize) -> Result<()> {
    let plain = values(SIDE * SIDE);
    let width = Width::ALL.into_iter().find(|w| w.to_string() == name);
    let peer = PEERS
        .into_iter()
        .find(|(peer, _)| *peer == format!("candle {name}"));
    let mut contender = match (width, peer) {
        (Some(width), _) => {
            let cpu = Cpu::new()?.with_pool(Serial);
            ours(&cpu, &ring(&pack(&plain, SIDE, SIDE)?, 0), width, m)
        }
        (None, Some((name, kind))) => {
            let tensor = quantize(&plain, SIDE, SIDE, kind)?;
            theirs(name, &peer_ring(&tensor, 0)?, SIDE, m)?
        }
        (None, None) => {
            return Err(format!(
                "unknown contender `{name}`: expected a2, a4, a8, bf16, Q4_0, Q4_K or Q8_0"
            )
            .into());
        }
    };
    for _ in 0..calls {
        (contender.call)()?;
    }
    println!("{}", m * SIDE * SIDE);
    Ok(())
}
