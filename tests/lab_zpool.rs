//! The captures of `tests/fixtures/zpool`: pools in every state that the lab
//! can make, and what hostd says of each is what their README says.
//!
//! `./test captures` makes them again; with `HOSTD_BLESS=1` the new captures are
//! put in the place of the old ones.
#![cfg(feature = "lab-tests")]
#![allow(clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test unpacks what it has fetched")]

mod lab_common;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hostd_lab::{Lab, LabSpec};
use lab_common::*;

const SCRIPT: &str = include_str!("lab_zpool/capture.sh");
const README: &str = include_str!("fixtures/zpool/README.md");

#[test]
#[ignore = "ten minutes; the unit tests check what it made: ./test captures"]
fn every_capture_made_again() {
    let spec = LabSpec::fast().disks(6).memory_mib(3072).module("zfs").module("loop");
    let lab = Lab::boot(with_hostd(spec)).expect("the lab boots");
    lab.push_bytes(SCRIPT.as_bytes(), "/tmp/capture.sh", 0o755).expect("the script");
    run(
        &lab,
        &[
            ("layouts and members lost", |lab| part(lab, "layouts draid lost")),
            ("errors, scrubs and the rest", |lab| part(lab, "errors scrubs others")),
            ("replacements", |lab| part(lab, "replacing")),
            ("devices that fail", |lab| part(lab, "dm")),
            ("a disk pulled", pulled),
            ("each tolerates what the table says", tolerated),
        ],
    );
    if std::env::var_os("HOSTD_BLESS").is_some() {
        keep(&lab).expect("the captures are kept");
    }
}

fn part(lab: &Lab, parts: &str) -> Result<()> {
    let command = format!(
        "sh /tmp/capture.sh {parts} 2>/tmp/said; ! grep -E 'never|no middle|failed' /tmp/said"
    );
    lab.run_ok_for(&command, Duration::from_secs(600)).map(drop)
}

fn pulled(lab: &Lab) -> Result<()> {
    part(lab, "pulled0")?;
    lab.unplug_disk(1)?;
    part(lab, "pulled1")
}

/// The rows of the README's table: capture, tolerance of the pool.
fn table() -> Vec<(&'static str, u64)> {
    let cells = |line: &'static str| {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        let (name, told) = (cells.next()?, cells.last()?);
        Some((name, told.split(' ').next()?.parse().ok()?))
    };
    README.lines().filter(|line| line.starts_with('|')).filter_map(cells).collect()
}

fn tolerated(lab: &Lab) -> Result<()> {
    let rows = table();
    ensure!(rows.len() > 60, "the table of the README was not found: {rows:?}");
    for (name, expected) in rows {
        // Those of an earlier lab are not made again.
        if lab.run(&format!("[ -e /captures/{name}.json ]"))?.status != 0 {
            ensure!(["02", "05", "11"].contains(&&name[..2]), "{name} was not captured");
            continue;
        }
        for form in ["json", "txt"] {
            let view = json(lab, &format!("pool status --from /captures/{name}.{form}"))
                .with_context(|| format!("{name}.{form}"))?;
            ensure!(view["pools"][0]["tolerates"] == expected, "{name}.{form}: {view}");
        }
    }
    Ok(())
}

fn keep(lab: &Lab) -> Result<()> {
    lab.run_ok("tar -C /captures -cf /tmp/captures.tar .")?;
    let (fixtures, tar) = (
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/zpool")),
        lab.dir().join("captures.tar"),
    );
    lab.pull("/tmp/captures.tar", &tar)?;
    let status = Command::new("tar").arg("-C").arg(fixtures).arg("-xf").arg(tar).status()?;
    ensure!(status.success(), "tar: {status}");
    Ok(())
}
