//! A card's ROM, read out of the card: `rom` in its folder is switched on,
//! read, and switched off again, also when reading fails. Not so when the
//! helper that does it is killed at its deadline in between: then the ROM stays
//! switched on, and nobody writes to a card that hangs to change that.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use super::parse::MAX;
use crate::base::{PciAddress, with_sources};
use crate::host::run::RunError;
use crate::host::sys::SysError;
use crate::host::{Command, Host, SysRoot};
use crate::passthrough::helper::{AttributeError, DEADLINE, OURSELVES};
use crate::pci::read::folder;

/// Hidden argument: print the ROM of the function that follows.
const READ: &str = "--rom-read";

fn path(function: PciAddress) -> String {
    format!("{}/rom", folder(function))
}

/// Reads the ROM of a function, with a deadline where the kernel is real:
/// then in a process of its own, because a card that hangs keeps who reads it.
pub async fn read(host: &Host, function: PciAddress) -> Result<Vec<u8>, AttributeError> {
    if !host.sys.is_real() {
        return copy(&host.sys, function).map_err(AttributeError::Refused);
    }
    let mut command = Command::new(OURSELVES, [READ.to_owned(), function.to_string()]);
    command = command.deadline(DEADLINE);
    command.limit = MAX;
    let output = host.runner.run(command.clone()).await.and_then(|output| output.success(&command));
    output.map_err(|error| match error {
        RunError::Deadline { .. } => AttributeError::Hung(path(function)),
        other => AttributeError::Helper(other),
    })
}

/// Whether the kernel offers a function's ROM.
pub fn offered(sys: &SysRoot, function: PciAddress) -> bool {
    sys.exists(path(function))
}

fn copy(sys: &SysRoot, function: PciAddress) -> Result<Vec<u8>, SysError> {
    let path = path(function);
    sys.write(&path, b"1")?;
    let bytes = sys.bytes(&path, MAX as u64);
    let off = sys.write(&path, b"0");
    let bytes = bytes?;
    off.map(|()| bytes)
}

/// The helper's side: to be called by both binaries before anything else, with
/// all their arguments. `None` when this is not meant.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let args: Vec<OsString> = args.into_iter().skip(1).take(3).collect();
    let [verb, function] = &args[..] else { return None };
    if verb.to_str()? != READ {
        return None;
    }
    let said = function.to_str()?.parse().map_err(|error| with_sources(&error)).and_then(
        |function: PciAddress| {
            copy(&SysRoot::new("/"), function).map_err(|error| with_sources(&error))
        },
    );
    let mut out = io::stdout();
    let done = said.and_then(|bytes| {
        out.write_all(&bytes).and_then(|()| out.flush()).map_err(|error| error.to_string())
    });
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Nobody left to tell if this fails.
            let _ = writeln!(io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    })
}
