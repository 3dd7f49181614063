//! Where events come from, on a fake machine.
use super::*;
