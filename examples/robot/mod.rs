//! What the robot examples and their tests share.

// Each example and test uses a part of it.
#![allow(dead_code)]

pub mod checkpoint;
pub mod closed_loop;
pub mod columns;
pub mod compute;
pub mod dataset;
pub mod draw;
pub mod hidden;
pub mod networks;
pub mod policy;
pub mod rollouts;
pub mod rows;
pub mod setting;
pub mod setup;
pub mod skipping;
pub mod table;
