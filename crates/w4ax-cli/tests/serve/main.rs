//! `w4ax serve` over real pipes.

mod bad_lines;
mod describe;
mod executed;
mod exit;
mod floors;
mod ids;
mod process;
mod random_skip;
mod rule;
mod server;
mod skipping;
mod twin;
mod widths;

use w4ax_robot::rollouts::{RECORDED, Rollouts};

fn rollouts() -> Rollouts {
    Rollouts::load(RECORDED).unwrap()
}
