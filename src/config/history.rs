//! What `history:` of `host.yaml` means.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::desk::{Desk, exact};
use super::formats::Text;
use super::raw::RawHistory;
use super::retentions;
use super::tree::Trail;
use super::types::History;
use crate::base::Bytes;

const LEAST: Bytes = Bytes(16 << 20);
const MOST: Bytes = Bytes(1 << 40);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn history(raw: RawHistory, desk: &mut Desk<'_, '_>) -> History {
    let usual = History::default();
    let trail = Trail::to("history");
    let ladder = match raw.keep {
        None => usual.ladder,
        Some(Text(None)) => Vec::new(),
        Some(Text(Some(ladder))) => {
            if let Some((message, fix)) = retentions::wrong(&ladder) {
                desk.error(&trail.key("keep"), message, fix);
            }
            ladder
        }
    };
    let max_size = raw.max_size.map_or(usual.max_size, |Text(size)| size);
    if !(LEAST..=MOST).contains(&max_size) {
        let message = "the history cannot be kept within that";
        desk.error(&trail.key("max-size"), message, "write a size from 16M to 1T");
    }
    History {
        ladder,
        max_size,
        max_series: raw.max_series.map_or(usual.max_series, |most| most as usize),
        flush: desk.span(&trail.key("flush"), raw.flush, SECOND, HOUR).unwrap_or(usual.flush),
    }
}

/// As it would be written.
pub(super) fn show(history: &History) -> Json {
    json!({
        "keep": retentions::show(&history.ladder),
        "max-size": size(history.max_size),
        "max-series": history.max_series,
        "flush": exact(history.flush),
    })
}

fn size(Bytes(bytes): Bytes) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let fits = |(shift, _): &&(u32, &str)| bytes.is_multiple_of(1 << shift);
    units
        .iter()
        .find(fits)
        .map_or_else(|| bytes.to_string(), |(s, unit)| format!("{}{unit}", bytes >> s))
}
