//! Several disks that fail at once are rather the fault of what they have in
//! common. Pure; what they hang on is read by [`disks`](super::disks).

use std::time::Instant;

use super::devices::{finding, is_lost};
use super::memory::Memory;
use super::model::{Class, Pool, Vdev};
use crate::ask::view::FindingView;
use crate::base::Severity;

/// Devices with new errors, or lost, within the last hour: more than one is a
/// suspicion.
pub fn suspicion(pool: &Pool, memory: &Memory, now: Instant, found: &mut Vec<FindingView>) {
    let tops = pool.vdevs.iter().filter(|top| top.class != Class::Spare);
    let (bad, good): (Vec<&Vdev>, Vec<&Vdev>) = tops.flat_map(Vdev::leaves).partition(|leaf| {
        let news = memory.news(leaf, now);
        news.lost || news.errors.total() > 0
    });
    if bad.len() < 2 {
        return;
    }
    let lost = bad.iter().any(|leaf| is_lost(&leaf.state));
    let chain = |leaf: &&Vdev| memory.parents(leaf).to_vec();
    let healthy: Vec<_> = good.iter().map(chain).filter(|chain| !chain.is_empty()).collect();
    let failed: Vec<_> = bad.iter().map(chain).collect();
    let what = if lost { "have errors or were lost" } else { "have errors" };
    let (on, advice) = if let Some(parent) = common(&failed, &healthy) {
        let all = if bad.len() == 2 { "both" } else { "all" };
        (
            format!(", and {all} hang on {parent}"),
            format!("check {parent}, its cables and power before replacing any disk"),
        )
    } else {
        let advice = "check what these devices have in common before replacing any";
        (String::new(), advice.to_owned())
    };
    let message = format!(
        "{} devices of {} {what} at once{on}: rather a cable, controller, power supply or memory \
         than the disks",
        bad.len(),
        pool.name
    );
    let code = "errors-on-several-devices";
    found.push(finding(Severity::Warning, code, &pool.name, message, advice));
}

/// The nearest thing on which all the failed disks hang, unless all healthy
/// ones hang on it too: then it works.
fn common<'a>(failed: &'a [Vec<String>], healthy: &[Vec<String>]) -> Option<&'a str> {
    let (first, others) = failed.split_first()?;
    let shared = first
        .iter()
        .enumerate()
        .take_while(|(at, parent)| others.iter().all(|chain| chain.get(*at) == Some(parent)));
    let nearest = shared.last()?.1;
    let works = !healthy.is_empty() && healthy.iter().all(|chain| chain.contains(nearest));
    (!works).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chains(chains: &[&str]) -> Vec<Vec<String>> {
        chains.iter().map(|chain| chain.split_whitespace().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn the_nearest_common_parent_that_not_all_share() {
        let of = |failed: &[&str], healthy: &[&str]| {
            common(&chains(failed), &chains(healthy)).map(str::to_owned)
        };
        let nearest = |name: &str| Some(name.to_owned());
        assert_eq!(of(&["bridge hba x", "bridge hba y"], &["bridge sata z"]), nearest("hba"));
        assert_eq!(of(&["hba x", "hba x"], &["hba y", "hba z"]), nearest("x"));
        assert_eq!(of(&["hba a", "hba b"], &["hba c", "hba d"]), None, "the controller works");
        assert_eq!(of(&["hba a", "hba b"], &["hba c", "sata d"]), nearest("hba"));
        assert_eq!(of(&["hba a", "hba b"], &[]), nearest("hba"), "nothing else to compare");
        assert_eq!(of(&["hba a", "sata b"], &[]), None);
        assert_eq!(of(&["hba a", ""], &[]), None, "one is not known");
        assert_eq!(of(&[], &[]), None);
    }
}
