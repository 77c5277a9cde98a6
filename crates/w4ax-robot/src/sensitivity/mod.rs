//! How sensitive an episode's end is to the error of one step, against the motion of that step
//! (DyQ-VLA, arXiv 2603.07904, section III), and how continuous an expert's actions are in each
//! phase (DySL-VLA, arXiv 2602.22896).

pub mod continuity;
pub mod correlation;
pub mod expected;
pub mod expert;
pub mod json;
pub mod motion;
pub mod perturb;
pub mod plot;
pub mod response;
pub mod table;
