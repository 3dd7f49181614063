//! What runs first in the guest.

use std::path::PathBuf;

use super::Usual;
use crate::config::desk::Desk;
use crate::config::formats::{AbsolutePath, Text};
use crate::config::raw::{RawFirmware, RawFirmwareFull, RawFirmwareKind};
use crate::config::tree::Trail;
use crate::config::types::Firmware;

/// Where Debian's `ovmf` puts them. The second pair protects the variables by
/// SMM and has Microsoft's keys (/usr/share/doc/ovmf/README.Debian).
const OVMF: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"];
const SECURE: [&str; 2] =
    ["/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"];

/// The firmware, with its usual files where none are named.
pub fn read(
    raw: Option<RawFirmware>,
    secure: Option<bool>,
    usual: Usual,
    desk: &mut Desk<'_, '_>,
) -> Option<Firmware> {
    let trail = Trail::to("firmware");
    let full = match raw {
        Some(RawFirmware::Full(full)) => full,
        Some(RawFirmware::Kind(kind)) => plain(kind),
        // It is given and wrong: who knows which was meant.
        None if desk.root.has(&trail) => return None,
        None => plain(usual.firmware),
    };
    let not_for = |desk: &mut Desk<'_, '_>, key: &str, kind: &str| {
        desk.error(&trail.key(key), format!("`{key}` is not for {kind}"), "remove it");
    };
    match full.kind? {
        RawFirmwareKind::Seabios => {
            for (key, given) in [("code", full.code.is_some()), ("vars", full.vars.is_some())] {
                if given {
                    not_for(desk, key, "seabios");
                }
            }
            if secure == Some(true) {
                let message = "a BIOS knows no Secure Boot";
                desk.error(&Trail::to("secure-boot"), message, "write `firmware: ovmf`");
            }
            Some(Firmware::Seabios { log: full.log.unwrap_or_default() })
        }
        RawFirmwareKind::Ovmf => {
            if full.log.is_some() {
                not_for(desk, "log", "ovmf, which writes none");
            }
            let secure = secure.unwrap_or(usual.secure);
            let mut file = |key: &str, given: Option<Text<AbsolutePath>>, usual: &str| {
                let own = given.map(|Text(path)| path);
                let fix = match own {
                    Some(_) => "correct the path",
                    None => "install it with `apt install ovmf`",
                };
                let path = own.unwrap_or_else(|| PathBuf::from(usual));
                desk.needs_file(&trail.key(key), "the firmware's file", &path, fix);
                path
            };
            let [usual_code, usual_vars] = if secure { SECURE } else { OVMF };
            let code = file("code", full.code, usual_code);
            let vars = file("vars", full.vars, usual_vars);
            Some(Firmware::Ovmf { code, vars, secure })
        }
    }
}

fn plain(kind: RawFirmwareKind) -> RawFirmwareFull {
    RawFirmwareFull { kind: Some(kind), log: None, code: None, vars: None }
}
