//! Pages that are generated from the code stand in `docs/`, and parts of pages
//! between two comments; this test compares them, and writes them anew with `HOSTD_BLESS=1`.
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

/// A part of a page, between two comments.
fn part(name: &str, mark: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let page = fs::read_to_string(&path).expect("the page is there");
    let (begin, end) = (format!("<!-- {mark}: begin -->\n"), format!("<!-- {mark}: end -->"));
    let (before, rest) = page.split_once(&begin).expect("where the part begins");
    let (written, after) = rest.split_once(&end).expect("where the part ends");
    if std::env::var_os("HOSTD_BLESS").is_some() {
        let page = format!("{before}{begin}{generated}{end}{after}");
        return fs::write(&path, page).expect("the page can be written");
    }
    assert!(
        written == generated,
        "{name} is out of date; write it anew with: HOSTD_BLESS=1 cargo test --test docs"
    );
}

#[test]
fn quirks() {
    part("hardware-notes.md", "quirks", &hostd::passthrough::quirks::markdown());
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
fn streams() {
    page("streams.md", &hostd::riemann::streams::reference::page());
}

#[test]
fn doctor() {
    page("doctor.md", &hostd::doctor::check::page());
}

#[test]
fn json() {
    page("json.md", &hostd::cli::reference::page());
}

#[test]
fn dbus() {
    page("dbus.md", &hostd::api::reference::page());
}
