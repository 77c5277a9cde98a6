//! What the robot examples share.

// Each example and test uses a part of it.
#![allow(dead_code)]

pub mod rollouts;
