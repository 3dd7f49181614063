//! TEMPORARY: the signatures of the room that is built elsewhere, so that
//! `vm/` compiles. Replaced at merge.
#![allow(missing_docs, clippy::unused_async)]

use crate::ask::{Code, Refusal};
use crate::base::{Name, PciAddress};
use crate::config;

#[derive(Clone)]
pub struct Passthrough;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    Person,
    Vm(Name),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub functions: Vec<PciAddress>,
    pub group: u32,
    pub changed: bool,
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    pub changed: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("passthrough is built elsewhere")]
pub struct PassthroughError;

impl PassthroughError {
    pub fn hint(&self) -> String {
        String::new()
    }
}

impl From<PassthroughError> for Refusal {
    fn from(error: PassthroughError) -> Self {
        let hint = error.hint();
        Refusal::new(Code::Refused, error.to_string(), hint)
    }
}

impl Passthrough {
    pub async fn bind(&self, _: &config::GpuRef, _: Owner) -> Result<Bound, PassthroughError> {
        Err(PassthroughError)
    }

    pub async fn release(
        &self,
        _: &config::GpuRef,
        _: Owner,
    ) -> Result<Released, PassthroughError> {
        Err(PassthroughError)
    }
}
