//! Pages that are generated from the code stand in `docs/`; this test compares
//! them, and writes them anew with `HOSTD_BLESS=1`.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a test reads and writes the repository"
)]

use std::fs;
use std::path::Path;

fn page(name: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("HOSTD_BLESS").is_some() {
        fs::write(&path, generated).expect("docs/ can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == generated,
        "docs/{name} is out of date; write it anew with: HOSTD_BLESS=1 cargo test --test docs"
    );
}

#[test]
fn events() {
    page("events.md", &hostd::state::catalogue::markdown());
}

#[test]
fn configuration() {
    page("configuration.md", &hostd::config::reference::page());
}

#[test]
fn json() {
    page("json.md", &hostd::cli::reference::page());
}
