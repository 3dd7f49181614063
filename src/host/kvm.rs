//! KVM, asked through its own interface, and tried: a guest of a few
//! instructions has to run to its end. `/dev/kvm` that opens proves little:
//! inside some virtual machines it opens, and then dies at the first
//! instruction that the kernel has to emulate.
//!
//! [`look`] may hang in the kernel, so others call it in a process of their
//! own: the same binary with [`VERB`], whose one line of JSON is a [`Look`].

mod guest;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use kvm_ioctls::{Cap, Kvm};
use serde::{Deserialize, Serialize};

/// Hidden argument of both binaries: look at KVM and print what was seen.
pub const VERB: &str = "--kvm-look";

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kvm", rename_all = "kebab-case")]
pub enum Look {
    /// There is no `/dev/kvm`.
    Missing,
    /// We may not open it.
    Denied,
    /// It does not open, for another reason.
    Broken {
        /// What the kernel said.
        why: String,
    },
    /// It opens.
    Opens(Opens),
}

/// What a `/dev/kvm` that opens has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opens {
    /// Version of its interface; 12 since Linux 2.6.22.
    pub api: i32,
    /// Virtual processors that a VM should have at most.
    pub vcpus: u64,
    /// Virtual processors that a VM can have at most.
    pub max_vcpus: u64,
    /// The capabilities that a VM with a card uses, with what the kernel says of each.
    pub capabilities: BTreeMap<String, i32>,
    /// The guests that were tried, in their order.
    pub trials: Vec<Trial>,
}

/// A guest that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Which instructions it is made of: `64-bit`, `BMI2`, `AVX`, `AVX2`.
    pub name: String,
    /// How it went.
    pub outcome: Outcome,
}

/// How a guest went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// To its end, with the right result.
    Ran,
    /// Not to its end, or with a wrong result.
    Failed {
        /// How it ended, in words.
        why: String,
    },
    /// KVM offers guests no such instructions.
    NotOffered,
}

/// Why nothing was seen.
pub type KvmResult<T> = Result<T, kvm_ioctls::Error>;

/// The capabilities that are asked for, by their names in `linux/kvm.h`.
const CAPABILITIES: [(&str, Cap); 14] = [
    ("USER_MEMORY", Cap::UserMemory),
    ("IRQCHIP", Cap::Irqchip),
    ("SPLIT_IRQCHIP", Cap::SplitIrqchip),
    ("EXT_CPUID", Cap::ExtCpuid),
    ("READONLY_MEM", Cap::ReadonlyMem),
    ("IRQ_ROUTING", Cap::IrqRouting),
    ("IRQFD", Cap::Irqfd),
    ("IRQFD_RESAMPLE", Cap::IrqfdResample),
    ("IOEVENTFD", Cap::Ioeventfd),
    ("DEVICE_CTRL", Cap::DeviceCtrl),
    ("IMMEDIATE_EXIT", Cap::ImmediateExit),
    ("HYPERV", Cap::Hyperv),
    ("HYPERV_TIME", Cap::HypervTime),
    ("HYPERV_SYNIC2", Cap::HypervSynic2),
];

/// Opens `/dev/kvm`, asks it, and tries guests. Blocks as long as the kernel does.
pub fn look() -> Look {
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => {
            let error = io::Error::from(error);
            return match error.kind() {
                io::ErrorKind::NotFound => Look::Missing,
                io::ErrorKind::PermissionDenied => Look::Denied,
                _ => Look::Broken { why: error.to_string() },
            };
        }
    };
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let asked = CAPABILITIES.iter();
    Look::Opens(Opens {
        api: kvm.get_api_version(),
        vcpus: number(kvm.get_nr_vcpus()),
        max_vcpus: number(kvm.get_max_vcpus()),
        capabilities: asked
            .map(|(name, cap)| ((*name).to_owned(), kvm.check_extension_int(*cap)))
            .collect(),
        trials: guest::try_all(&kvm),
    })
}

/// The helper's side: to be called by both binaries before anything else, with
/// all their arguments. `None` when this is not meant.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let args: Vec<OsString> = args.into_iter().skip(1).take(2).collect();
    let [verb] = &args[..] else { return None };
    if verb.to_str()? != VERB {
        return None;
    }
    let text = serde_json::to_string(&look()).unwrap_or_default();
    let mut out = io::stdout();
    let said = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Some(if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn the_real_one_is_judged_in_time_and_in_one_of_three_ways() {
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || tell.send(look()));
        let look = told.recv_timeout(Duration::from_secs(60)).expect("it returns");
        println!("{look:?}");
        if let Look::Opens(opens) = &look {
            assert_eq!(opens.api, 12);
            let names: Vec<&str> = opens.trials.iter().map(|trial| trial.name.as_str()).collect();
            assert_eq!(names, ["64-bit", "BMI2", "AVX", "AVX2"]);
            for trial in &opens.trials {
                if let Outcome::Failed { why } = &trial.outcome {
                    assert!(!why.is_empty(), "{}", trial.name);
                }
            }
        }
        // It survives the way to who asked.
        let text = serde_json::to_string(&look).unwrap();
        assert_eq!(serde_json::from_str::<Look>(&text).unwrap(), look);
    }

    #[test]
    fn other_arguments_are_not_for_the_helper() {
        let args = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(main(args(&["hostd"])).is_none());
        assert!(main(args(&["hostd", VERB, "more"])).is_none());
    }
}
