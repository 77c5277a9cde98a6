//! The widths of the control run: those of the dynamic run in a random order.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Shuffles the widths within each task, so that every task keeps its shares.
pub fn shuffle_within_tasks<T: Copy>(widths: &[T], task: &[usize], rng: &mut ChaCha8Rng) -> Vec<T> {
    let mut shuffled = widths.to_vec();
    for of in 0..task.iter().max().map_or(0, |last| last + 1) {
        let rows: Vec<usize> = (0..task.len()).filter(|&row| task[row] == of).collect();
        let mut from = rows.clone();
        from.shuffle(rng);
        for (row, from) in rows.into_iter().zip(from) {
            shuffled[row] = widths[from];
        }
    }
    shuffled
}
