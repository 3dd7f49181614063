//! The devices of the host that a VM borrows.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;

use crate::ask::{Code, Refusal};
use crate::base::{Name, PciAddress};
use crate::config::{GpuOptions, GpuRef, Vm};
use crate::passthrough::{Owner, Passthrough};

/// What a VM was lent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lent {
    /// All functions of the card.
    pub functions: Vec<PciAddress>,
    /// The functions whose ROM the guest must not see.
    pub rom_off: Vec<PciAddress>,
    /// Whether a BIOS guest shows its picture on it only with `x-vga`.
    pub x_vga: bool,
    /// What to know about it.
    pub warnings: Vec<String>,
}

/// A lending or a return under way.
pub type Handing<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'a>>;

/// A look at the cards.
pub type Looking<'a> = Pin<Box<dyn Future<Output = Vec<PciAddress>> + Send + 'a>>;

/// Who lends the devices. A refusal means that nothing was touched or
/// everything was put back.
pub trait Devices: Send + Sync {
    /// Lends a card to a VM; lending it again is fine.
    fn lend<'a>(
        &'a self,
        gpu: &'a GpuRef,
        vm: &'a Name,
        options: &'a GpuOptions,
    ) -> Handing<'a, Lent>;
    /// Lends an NVMe controller; lending it again is fine.
    fn lend_nvme<'a>(&'a self, address: PciAddress, vm: &'a Name) -> Handing<'a, Lent>;
    /// The functions that it would lend, as far as that is known.
    fn functions<'a>(&'a self, vm: &'a Vm) -> Looking<'a>;
    /// Takes it back; that it was not lent is fine.
    fn take_back<'a>(&'a self, gpu: &'a GpuRef, vm: &'a Name) -> Handing<'a, ()>;
}

impl Devices for Passthrough {
    fn lend<'a>(
        &'a self,
        gpu: &'a GpuRef,
        vm: &'a Name,
        options: &'a GpuOptions,
    ) -> Handing<'a, Lent> {
        Box::pin(async move {
            let bound = self.bind_with(gpu, Owner::Vm(vm.clone()), options).await?;
            let (functions, warnings) = (bound.functions, bound.warnings);
            Ok(Lent { functions, rom_off: bound.rom_off, x_vga: bound.x_vga, warnings })
        })
    }

    fn lend_nvme<'a>(&'a self, address: PciAddress, vm: &'a Name) -> Handing<'a, Lent> {
        Box::pin(async move {
            let bound = self.bind_storage(address, Owner::Vm(vm.clone())).await?;
            Ok(Lent { functions: bound.functions, warnings: bound.warnings, ..Lent::default() })
        })
    }

    fn functions<'a>(&'a self, vm: &'a Vm) -> Looking<'a> {
        Box::pin(async move {
            let Some(gpu) = &vm.gpu else { return Vec::new() };
            let listed = self.list().await.gpus;
            let meant = listed.into_iter().find(|card| match gpu {
                GpuRef::Name(name) => card.name == name.as_str(),
                GpuRef::Address(address) => card.functions.contains(address),
            });
            meant.map(|card| card.functions).unwrap_or_default()
        })
    }

    fn take_back<'a>(&'a self, gpu: &'a GpuRef, vm: &'a Name) -> Handing<'a, ()> {
        Box::pin(async move {
            self.release(gpu, Owner::Vm(vm.clone())).await?;
            Ok(())
        })
    }
}

/// A card made of values, and no other.
#[derive(Default)]
pub struct FakeDevices {
    state: Mutex<FakeState>,
}

/// What has become of the fake card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeState {
    /// The functions that lending gives.
    pub functions: Vec<PciAddress>,
    /// Who has it.
    pub lent_to: Option<Name>,
    /// How often it was lent.
    pub lendings: u32,
    /// Lending is refused with these words.
    pub refuse: Option<Refusal>,
    /// Taking back fails with these words.
    pub stick: Option<String>,
}

impl FakeDevices {
    /// Looks at the card, or changes what it will do.
    pub fn with<T>(&self, look: impl FnOnce(&mut FakeState) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Devices for FakeDevices {
    fn lend<'a>(&'a self, _: &'a GpuRef, vm: &'a Name, _: &'a GpuOptions) -> Handing<'a, Lent> {
        let lent = self.with(|state| match (&state.refuse, &state.lent_to) {
            (Some(refusal), _) => Err(refusal.clone()),
            (None, Some(other)) if other != vm => {
                Err(Refusal::new(Code::Refused, format!("`{other}` has the card"), ""))
            }
            (None, _) => {
                state.lent_to = Some(vm.clone());
                state.lendings += 1;
                Ok(Lent { functions: state.functions.clone(), ..Lent::default() })
            }
        });
        Box::pin(async move { lent })
    }

    fn lend_nvme<'a>(&'a self, address: PciAddress, _: &'a Name) -> Handing<'a, Lent> {
        let refuse = self.with(|state| state.refuse.clone());
        Box::pin(async move {
            refuse.map_or(Ok(Lent { functions: vec![address], ..Lent::default() }), Err)
        })
    }

    fn functions<'a>(&'a self, _: &'a Vm) -> Looking<'a> {
        Box::pin(async { Vec::new() })
    }

    fn take_back<'a>(&'a self, _: &'a GpuRef, _: &'a Name) -> Handing<'a, ()> {
        let back = self.with(|state| {
            if let Some(why) = &state.stick {
                return Err(Refusal::new(Code::Failed, why.clone(), ""));
            }
            state.lent_to = None;
            Ok(())
        });
        Box::pin(async move { back })
    }
}
