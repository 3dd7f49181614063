//! An event's path, as Riemann makes it (`graphite-path-percentiles` in its
//! graphite.clj): the host's parts in reverse, then the service with its
//! blanks as dots; `0.95` at the end of a service is `95`.
//!
//! Beyond that, names are made safe: a carbon makes folders and files of them,
//! and graphite-web takes some signs for patterns and functions.

use crate::base::Event;

/// Bytes of one part: a file name ends in `.wsp` and has at most 255.
const PART: usize = 200;
/// Parts of one path.
const PARTS: usize = 32;

/// The path of an event; none of one that has no name at all.
pub fn path(event: &Event, prefix: &str, template: &str) -> Option<String> {
    let host = event.host.as_deref().unwrap_or_default();
    let service = whole(event.service.as_deref().unwrap_or_default());
    let mut text = format!("{prefix}.");
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let (field, after) = after.split_once('}').unwrap_or((after, ""));
        match field {
            "reversed-host" => {
                let parts: Vec<&str> = host.rsplit('.').collect();
                text.push_str(&parts.join("."));
            }
            "host" => text.push_str(host),
            // Only these three pass the check of the configuration.
            _ => text.push_str(&service),
        }
        rest = after;
    }
    text.push_str(rest);
    let parts = text.split(['.', ' ']).filter(|part| !part.is_empty()).take(PARTS);
    let path = parts.map(safe).collect::<Vec<_>>().join(".");
    (!path.is_empty()).then_some(path)
}

/// `io 0.95` is `io 95`: a dot would make a folder of it.
fn whole(service: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let text = service.trim_end_matches(is_number);
    let tail = service.get(text.len()..).unwrap_or_default();
    // Digits, one dot, digits, at the very end.
    let found = tail.rsplit_once('.').and_then(|(before, after)| {
        let before = before.rsplit('.').next().unwrap_or_default();
        let good = !before.is_empty() && !after.is_empty();
        good.then(|| before.len() + 1 + after.len())
    });
    let Some(length) = found else { return service.to_owned() };
    let (head, number) = service.split_at(service.len() - length);
    match number.parse::<f64>() {
        // As the reference: 0.999 is 99.
        #[allow(clippy::cast_possible_truncation, reason = "checked")]
        Ok(value) if value * 100.0 < 1e15 => format!("{head}{}", (value * 100.0) as i64),
        Ok(_) | Err(_) => service.to_owned(),
    }
}

/// One part without what a file system, a shell or graphite-web could take for
/// something else.
fn safe(part: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || "_-:@%+#".contains(c);
    part.chars().map(|c| if good(c) { c } else { '_' }).take(PART).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USUAL: &str = "{reversed-host}.{service}";

    fn of(host: Option<&str>, service: Option<&str>) -> Option<String> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let event = Event { host: own(host), service: own(service), ..Event::default() };
        path(&event, "", USUAL)
    }

    #[test]
    fn as_riemann_does() {
        for (host, service, wanted) in [
            ("nas", "cpu", "nas.cpu"),
            ("nas.home.arpa", "zpool tank health", "arpa.home.nas.zpool.tank.health"),
            ("a", "req 0.95", "a.req.95"),
            ("a", "req 0.999", "a.req.99"),
            ("a", "req 1.0", "a.req.100"),
            ("a", "req 0.5", "a.req.50"),
            ("a", "req 12", "a.req.12"),
            // 2.3 × 100 is a little less than 230 in doubles, there as here.
            ("a", "v1.2.3", "a.v1.229"),
            ("a", "0.99", "a.99"),
            ("a", "5.", "a.5"),
            ("a", ".5", "a.5"),
        ] {
            assert_eq!(of(Some(host), Some(service)).as_deref(), Some(wanted), "{service}");
        }
        assert_eq!(of(None, Some("cpu")).as_deref(), Some("cpu"));
        assert_eq!(of(Some("a.b"), None).as_deref(), Some("b.a"));
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some("..."), Some("  ")), None);
    }

    #[test]
    fn hostile_names_are_made_safe() {
        for (service, wanted) in [
            ("disk /mnt/../etc", "h.disk._mnt_._etc"),
            ("../../etc/passwd", "h._._etc_passwd"),
            ("a\n1 2 3", "h.a_1.2.3"),
            ("*;rm[x]{y}(z)", "h._rm_x__y__z_".replacen("_rm", "__rm", 1).as_str()),
            ("caf\u{e9}\0", "h.caf__"),
            ("a;tag=b", "h.a_tag_b"),
        ] {
            assert_eq!(of(Some("h"), Some(service)).as_deref(), Some(wanted), "{service:?}");
        }
    }

    #[test]
    fn prefix_and_template_are_the_owners() {
        let event = Event {
            host: Some("nas.home".into()),
            service: Some("cpu".into()),
            ..Event::default()
        };
        assert_eq!(path(&event, "x.y", USUAL).unwrap(), "x.y.home.nas.cpu");
        assert_eq!(
            path(&event, "", "servers.{host}.hostd.{service}").unwrap(),
            "servers.nas.home.hostd.cpu"
        );
    }

    proptest! {
        #[test]
        fn every_path_is_safe(host: Option<String>, service: Option<String>, prefix: String) {
            let event = Event { host, service, ..Event::default() };
            if let Some(path) = path(&event, &prefix, USUAL) {
                prop_assert!(path.split('.').count() <= PARTS);
                for part in path.split('.') {
                    prop_assert!(!part.is_empty() && part.len() <= PART);
                    let bad = b"/;*?[]{}()\\'\"$&|<>,~!`=";
                    let good = |b: u8| b.is_ascii_graphic() && !bad.contains(&b);
                    prop_assert!(part.bytes().all(good));
                }
            }
        }
    }
}
