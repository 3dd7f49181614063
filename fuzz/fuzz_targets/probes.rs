//! What services answer: no bytes make a reader panic or read on for ever.
#![no_main]

use hostd::base::mountinfo;
use hostd::config::Greets;
use hostd::host::run::Exit;
use hostd::media::probes::greeting::{self, Greeting};
use hostd::media::probes::{http, nfs, plex, plugin, shares, x509};
use hostd::media::{afp, mounts, smb};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = smb::parse(bytes);
    let _ = afp::parse(bytes);
    if let Some(head) = bytes.first_chunk() {
        let _ = smb::frame(*head);
    }
    if let Some(head) = bytes.first_chunk() {
        let _ = afp::header(*head);
    }
    if let Some(mark) = bytes.first_chunk() {
        let _ = nfs::mark(*mark);
    }
    let _ = nfs::parse(bytes, 7);
    assert!(http::read(bytes, true) != Ok(None));
    let _ = http::read(bytes, false);
    for kind in
        [Greets::Smtp, Greets::Imap, Greets::Pop3, Greets::Mysql, Greets::Ssh, Greets::Ftp]
    {
        let read = greeting::read(kind, bytes);
        assert!(read != Greeting::More || bytes.len() < greeting::MAX + 8);
    }
    let _ = (plex::identity(bytes), plex::sessions(bytes), plex::libraries(bytes));
    let _ = plugin::read(Exit::Code(0), bytes, bytes);
    let _ = x509::read(bytes);
    let text = String::from_utf8_lossy(bytes);
    for read in [
        shares::ini(shares::Ini::Smb, &text),
        shares::ini(shares::Ini::Afp, &text),
        shares::exports(&text),
        shares::minidlna(&text),
    ] {
        assert!(read.shares.len() <= shares::MAX);
    }
    let table: Vec<_> = mountinfo::mounts(&text).collect();
    let _ = mounts::holder(&table, "/tank/media".as_ref());
});
