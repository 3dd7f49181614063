//! `hostd.safe` on the kernel's command line: the owner's way back in when a
//! card that leaves the host freezes it. Nothing is bound, at boot or later.
//!
//! The udev rule of [`boot`](super::boot) reads the same word, so both must
//! read it alike: the last one counts, and `0`, `no`, `off`, `false` mean no
//! (udev's `IMPORT{cmdline}`, systemd's `src/basic/proc-cmdline.c`).

use crate::host::SysRoot;
use crate::host::sys::{SysError, TEXT_LIMIT};
pub use crate::pci::parse::cmdline_words as words;

/// The word.
pub const WORD: &str = "hostd.safe";

/// Why nothing is bound, for messages.
pub const WHY: &str = "hostd.safe is on the kernel command line";

/// The same when nobody knows: what cannot be read is taken for a yes.
pub const UNREAD: &str =
    "/proc/cmdline cannot be read, so hostd.safe is taken to be on the kernel command line";

/// What to do about it.
pub const FIX: &str = "Take it out of the boot loader's entry and reboot; `cat /proc/cmdline` shows \
                       what the kernel was started with. While that cannot be read, nothing is \
                       bound either";

/// The line that this kernel was started with. Boot loaders put any byte into
/// it: what is not UTF-8 is replaced, and the words around it stay words.
pub fn cmdline(sys: &SysRoot) -> Result<String, SysError> {
    let bytes = sys.bytes("/proc/cmdline", TEXT_LIMIT)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether this kernel was started with it, or may have been.
pub fn is_safe_mode(sys: &SysRoot) -> bool {
    why(sys).is_some()
}

/// Why nothing is bound now, if so.
pub fn why(sys: &SysRoot) -> Option<&'static str> {
    match cmdline(sys) {
        Ok(line) => asks(&line).then_some(WHY),
        // Where there is no /proc there is no word either: binding fails there by itself.
        Err(error) if error.is_missing() => None,
        Err(_) => Some(UNREAD),
    }
}

/// Whether a command line has the word, and not with a no behind it.
pub fn asks(cmdline: &str) -> bool {
    let values = words(cmdline).filter_map(|word| {
        let rest = word.trim_matches('"').strip_prefix(WORD)?;
        if rest.is_empty() { Some("1") } else { rest.strip_prefix('=') }
    });
    values
        .last()
        .is_some_and(|value| !matches!(value.trim_matches('"'), "0" | "no" | "off" | "false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_a_no_is_a_no() {
        for yes in [
            "hostd.safe",
            "quiet hostd.safe=1 x",
            "hostd.safe=off hostd.safe",
            "\"hostd.safe\"",
            "hostd.safe=",
        ] {
            assert!(asks(yes), "{yes}");
        }
        for no in [
            "",
            "quiet",
            "hostd.safe=0",
            "hostd.safer",
            "xhostd.safe",
            "hostd.safe hostd.safe=no",
            "a=\"b hostd.safe\"",
        ] {
            assert!(!asks(no), "{no}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_yes() {
        let dir = tempfile::tempdir().unwrap();
        let fake = crate::host::fake::FakeHost::new(dir.path());
        let sys = fake.host().sys;
        assert_eq!(why(&sys), None, "no /proc");
        fake.file("/proc/cmdline", b"quiet file=\xe4 hostd.safe\n").unwrap();
        assert_eq!(why(&sys), Some(WHY));
        fake.file("/proc/cmdline", b"quiet \xff\xfe root=x\n").unwrap();
        assert_eq!(why(&sys), None);
        fake.remove("/proc/cmdline").unwrap();
        fake.dir("/proc/cmdline").unwrap();
        assert_eq!(why(&sys), Some(UNREAD));
        assert!(is_safe_mode(&sys));
    }

    #[test]
    fn quotes_keep_a_word_together() {
        let all: Vec<_> = words(" a  b=\"c d\" e\n").collect();
        assert_eq!(all, ["a", "b=\"c d\"", "e"]);
    }
}
