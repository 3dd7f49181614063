//! The base disk of the own-boot tier: stub
use anyhow::{Result, bail};
use crate::argv::Image;
use std::path::Path;
pub fn overlay(_image: &Image, _overlay: &Path) -> Result<()> { bail!("not yet") }
