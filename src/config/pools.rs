//! What `pools:` of `host.yaml` means.

use std::collections::HashMap;

use super::desk::Desk;
use super::formats::Text;
use super::raw::RawPools;
use super::tree::Trail;
use super::types::Pools;

pub(super) fn pools(raw: RawPools, desk: &mut Desk<'_, '_>) -> Pools {
    let (mut names, mut expected) = (HashMap::new(), Vec::new());
    for (i, name) in raw.expected.unwrap_or_default().into_iter().enumerate() {
        let Some(Text(name)) = name else { continue };
        let trail = Trail::to("pools").key("expected").item(i);
        desk.unique(&mut names, name.clone(), &trail, format!("the pool `{name}`"));
        expected.push(name);
    }
    Pools { expected }
}
