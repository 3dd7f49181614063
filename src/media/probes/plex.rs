//! What Plex Media Server says of itself, its sessions and its libraries, in
//! the JSON that `Accept: application/json` asks for. Pure.
//!
//! `/identity` needs no token; `/status/sessions` and `/library/sections` do.
//! While it migrates its database it answers 503 to all else (plex.tv, "Plex
//! Media Server URL commands"; the pages of its API).

use serde::Deserialize;

use super::plain;
use crate::ask::view::ShareView;

/// The page that needs no token.
pub const IDENTITY: &str = "/identity";
/// Who watches what.
pub const SESSIONS: &str = "/status/sessions";
/// What there is to watch.
pub const SECTIONS: &str = "/library/sections";

/// More folders than these are not looked at.
const MAX_FOLDERS: usize = 256;

/// What `/identity` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `1.42.2.10156-f737b826c`.
    pub version: String,
    /// Whether somebody owns it; an unclaimed server serves only its own network.
    pub claimed: Option<bool>,
}

/// What `/library/sections` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Libraries {
    /// How many there are.
    pub count: usize,
    /// Each folder, by its library's name.
    pub folders: Vec<ShareView>,
    /// Libraries that are being scanned now.
    pub scanning: Vec<String>,
}

#[derive(Deserialize)]
struct Outer<T> {
    #[serde(rename = "MediaContainer")]
    inner: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawIdentity {
    machine_identifier: String,
    version: String,
    claimed: Option<bool>,
}

#[derive(Deserialize)]
struct RawSessions {
    size: u64,
}

#[derive(Deserialize)]
struct RawSections {
    #[serde(rename = "Directory", default)]
    directories: Vec<RawSection>,
}

#[derive(Deserialize)]
struct RawSection {
    title: String,
    #[serde(default)]
    refreshing: bool,
    #[serde(rename = "Location", default)]
    locations: Vec<RawLocation>,
}

#[derive(Deserialize)]
struct RawLocation {
    path: String,
}

/// Reads `/identity`. A server without an identifier is no Plex.
pub fn identity(body: &[u8]) -> Option<Identity> {
    let read: Outer<RawIdentity> = serde_json::from_slice(body).ok()?;
    let RawIdentity { machine_identifier, version, claimed } = read.inner;
    (!machine_identifier.is_empty()).then(|| Identity { version: plain(&version, 60), claimed })
}

/// How many sessions are live.
pub fn sessions(body: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Outer<RawSessions>>(body).ok().map(|read| read.inner.size)
}

/// Reads `/library/sections`.
pub fn libraries(body: &[u8]) -> Option<Libraries> {
    let read: Outer<RawSections> = serde_json::from_slice(body).ok()?;
    let mut out = Libraries { count: read.inner.directories.len(), ..Libraries::default() };
    for section in read.inner.directories {
        let name = plain(&section.title, 80);
        for location in section.locations {
            let fit = out.folders.len() < MAX_FOLDERS && location.path.len() < 4096;
            if fit && !location.path.contains(char::is_control) {
                out.folders.push(ShareView { name: name.clone(), path: location.path });
            }
        }
        if section.refreshing {
            out.scanning.push(name);
        }
    }
    Some(out)
}

#[cfg(test)]
pub(in crate::media) mod tests {
    use super::*;
    use proptest::prelude::*;

    // As Plex documents them; there is no free server that could be asked here.
    pub(crate) const IDENTITY_REPLY: &str = r#"{"MediaContainer":{"size":0,"claimed":true,
        "machineIdentifier":"0123456789abcdef","version":"1.42.2.10156-f737b826c"}}"#;
    pub(crate) const SESSIONS_REPLY: &str = r#"{"MediaContainer":{"size":2,"Metadata":[
        {"title":"Sintel","Player":{"state":"playing"}},{"title":"Elephants Dream"}]}}"#;
    pub(crate) const SECTIONS_REPLY: &str = r#"{"MediaContainer":{"size":2,"allowSync":false,
        "Directory":[{"key":"1","type":"movie","title":"Movies","refreshing":false,
        "Location":[{"id":1,"path":"/tank/media/movies"},{"id":2,"path":"/tank/more"}]},
        {"key":"2","type":"show","title":"TV","refreshing":true,
        "Location":[{"id":3,"path":"/tank/media/tv"}]}]}}"#;

    #[test]
    fn reads_what_plex_says() {
        let read = identity(IDENTITY_REPLY.as_bytes()).unwrap();
        assert_eq!(read.version, "1.42.2.10156-f737b826c");
        assert_eq!(sessions(SESSIONS_REPLY.as_bytes()), Some(2));
        assert_eq!(sessions(br#"{"MediaContainer":{"size":0}}"#), Some(0));
        let read = libraries(SECTIONS_REPLY.as_bytes()).unwrap();
        assert_eq!((read.count, read.folders.len()), (2, 3));
        assert_eq!(read.folders[2], ShareView { name: "TV".into(), path: "/tank/media/tv".into() });
        assert_eq!(read.scanning, ["TV"]);
    }

    #[test]
    fn others_are_no_plex() {
        assert_eq!(identity(b"<html>"), None);
        assert_eq!(identity(br#"{"MediaContainer":{"machineIdentifier":"","version":""}}"#), None);
        assert_eq!(sessions(b"{}"), None);
        assert_eq!(libraries(b"[]"), None);
        let odd = br#"{"MediaContainer":{"Directory":[{"title":"a\u001bb","Location":[
            {"path":"/a\nb"}]}]}}"#;
        assert_eq!(libraries(odd).unwrap().folders, []);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..400) {
            let _ = (identity(&bytes), sessions(&bytes), libraries(&bytes));
            let _ = libraries(&SECTIONS_REPLY.as_bytes()[..cut.min(SECTIONS_REPLY.len())]);
        }
    }
}
