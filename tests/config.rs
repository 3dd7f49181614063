//! The reference page is made from the schema and cannot go stale.

use hostd::config::reference::page;

/// `HOSTD_BLESS=1 cargo test --test config` writes the page anew.
#[test]
#[allow(clippy::disallowed_methods)] // A test may write its golden file.
fn the_reference_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    if std::env::var_os("HOSTD_BLESS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/configuration.md is stale: run HOSTD_BLESS=1 cargo test --test config"
    );
}
