//! Skipping layers: each rule by hand, and what must hold whatever the robot does.

mod failed;
mod file;
mod guide;
mod layers;
mod recorder;
mod stack;
