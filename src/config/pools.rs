//! What `pools:` of `host.yaml` means.

use std::collections::HashMap;
use std::time::Duration;

use super::desk::Desk;
use super::formats::Text;
use super::health;
use super::raw::RawPools;
use super::tree::Trail;
use super::types::Pools;

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn pools(raw: RawPools, desk: &mut Desk<'_, '_>) -> Pools {
    let (mut names, mut expected) = (HashMap::new(), Vec::new());
    for (i, name) in raw.expected.unwrap_or_default().into_iter().enumerate() {
        let Some(Text(name)) = name else { continue };
        let trail = Trail::to("pools").key("expected").item(i);
        desk.unique(&mut names, name.clone(), &trail, format!("the pool `{name}`"));
        expected.push(name);
    }
    let trail = Trail::to("pools").key("scrub-overdue");
    let scrub_overdue = match raw.scrub_overdue {
        None => Pools::default().scrub_overdue,
        Some(Text(None)) => None,
        Some(Text(Some(span))) => desk.span(&trail, Some(Text(span)), DAY, DAY * 3650),
    };
    let usual = Pools::default().capacity;
    let capacity = health::percent(raw.capacity, usual, &Trail::to("pools").key("capacity"), desk);
    Pools { expected, scrub_overdue, capacity }
}
