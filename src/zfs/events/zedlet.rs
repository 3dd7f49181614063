//! The side of zed: it runs `all-hostd.sh` for each event, with all that is
//! known in its environment (`ZEVENT_…`, zed(8)), and that runs us.
//!
//! zed waits for its scripts, one after the other, so this does one thing: it
//! sends what [`parse`](super::parse) knows in one datagram. Whether somebody
//! hears it is none of its business.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::parse::DATAGRAM;
use crate::host::dial;

/// Hidden argument: tell the socket that follows of the event in the environment.
pub const ZED_EVENT: &str = "--zed-event";
/// How long a full queue is waited for.
const PATIENCE: Duration = Duration::from_millis(50);
/// What is sent: the names are those of the environment, without `ZEVENT_`.
const KEYS: [&str; 6] = ["CLASS", "POOL", "EID", "TIME_SECS", "VDEV_GUID", "VDEV_PATH"];

/// To be called by hostctl before anything else, with all its arguments; `None`
/// when it is about something else. Always a success: zed has no use for others.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    if args.next()? != ZED_EVENT {
        return None;
    }
    if let Some(socket) = args.next() {
        let text = message(|key| std::env::var_os(format!("ZEVENT_{key}")));
        // Nobody listens, or is too slow: it looks by itself as well.
        let _ = dial::datagram(&PathBuf::from(socket), text.as_bytes(), PATIENCE);
    }
    Some(ExitCode::SUCCESS)
}

fn message(value: impl Fn(&str) -> Option<OsString>) -> String {
    let mut text = String::new();
    for key in KEYS {
        let Some(value) = value(key) else { continue };
        let value = value.to_string_lossy().replace(['\n', '\r'], " ");
        let line = format!("{}={value}\n", key.to_ascii_lowercase());
        if text.len() + line.len() <= DATAGRAM {
            text.push_str(&line);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zfs::events::parse;

    #[test]
    fn what_zed_says_arrives() {
        let text = message(|key| {
            let value = match key {
                "CLASS" => "resource.fs.zfs.statechange",
                "POOL" => "my\ntank",
                "EID" => "7",
                "VDEV_GUID" => "0x1F",
                _ => return None,
            };
            Some(value.into())
        });
        let event = parse::datagram(text.as_bytes()).unwrap();
        assert_eq!(event.class, "resource.fs.zfs.statechange");
        assert_eq!(event.pool.as_deref(), Some("my tank"));
        assert_eq!((event.eid, event.vdev_guid, event.vdev_path), (Some(7), Some(31), None));
    }

    #[test]
    fn it_is_bounded_and_always_a_success() {
        let text = message(|_| Some("x".repeat(5000).into()));
        assert!(text.len() <= DATAGRAM && text.starts_with("class=xxx"), "{}", text.len());
        let args = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(main(args(&["hostctl", "pool", "list"])).is_none());
        assert!(main(args(&["hostctl"])).is_none());
        assert!(main(args(&["hostctl", ZED_EVENT])).is_some());
        assert!(main(args(&["hostctl", ZED_EVENT, "/nonexistent/zed.sock"])).is_some());
    }
}
