//! What `disks:` of `host.yaml` means.

use std::collections::HashMap;
use std::time::Duration;

use super::desk::Desk;
use super::formats::Text;
use super::raw::RawDisks;
use super::tree::Trail;
use super::types::Disks;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn disks(raw: RawDisks, desk: &mut Desk<'_, '_>) -> Option<Disks> {
    let trail = Trail::to("disks");
    let (mut names, mut ignore) = (HashMap::new(), Vec::new());
    for (i, name) in raw.ignore.unwrap_or_default().into_iter().enumerate() {
        let Some(Text(name)) = name else { continue };
        let at = trail.key("ignore").item(i);
        desk.unique(&mut names, name.clone(), &at, format!("the disk `{name}`"));
        ignore.push(name);
    }
    let interval = desk.span(&trail.key("interval"), raw.interval, MINUTE, DAY)?;
    Some(Disks { interval, ignore })
}
