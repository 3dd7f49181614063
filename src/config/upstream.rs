//! What `upstream:` of `host.yaml` means.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::desk::{Desk, exact};
use super::formats::{Size, Span, Text};
use super::raw::{RawGraphiteFormat, RawGraphiteSink, RawRiemannSink, RawRiemannWay, RawUpstream};
use super::show::without_null;
use super::tree::Trail;
use super::types::{
    GraphiteFormat, GraphiteSink, RiemannSink, Sink, Upstream, UpstreamTls, Wanted, Way,
};
use super::words::Argument;
use crate::base::{Bytes, Name};
use crate::query;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

type Names = HashMap<Name, Trail>;

pub(super) fn upstream(raw: RawUpstream, desk: &mut Desk<'_, '_>) -> Upstream {
    let (trail, mut names) = (Trail::to("upstream"), Names::new());
    let mut out = Upstream::default();
    for (i, raw) in raw.riemann.into_iter().flatten().enumerate() {
        let trail = trail.key("riemann").item(i);
        out.riemann.extend(raw.and_then(|raw| riemann(raw, &trail, &mut names, desk)));
    }
    for (i, raw) in raw.graphite.into_iter().flatten().enumerate() {
        let trail = trail.key("graphite").item(i);
        out.graphite.extend(raw.and_then(|raw| graphite(raw, &trail, &mut names, desk)));
    }
    out
}

fn riemann(
    raw: RawRiemannSink,
    trail: &Trail,
    names: &mut Names,
    desk: &mut Desk<'_, '_>,
) -> Option<RiemannSink> {
    let way = way(&raw, trail, desk);
    let common = Common {
        name: raw.name.map(|Text(name)| name),
        address: raw.address.map(|Text(address)| address),
        wanted: raw.r#where,
        deadline: raw.deadline,
        keep: raw.keep,
        keep_for: raw.keep_for,
    };
    Some(RiemannSink {
        sink: sink(common, trail, names, desk)?,
        way: way?,
        batch: raw.batch? as usize,
        window: raw.window? as usize,
        replay_expired: raw.replay_expired?,
    })
}

fn way(raw: &RawRiemannSink, trail: &Trail, desk: &mut Desk<'_, '_>) -> Option<Way> {
    let protocol = raw.protocol?;
    let keys = ["server-name", "ca", "certificate", "key"];
    if protocol != RawRiemannWay::Tls {
        let root = desk.root;
        for key in keys.into_iter().filter(|key| root.has(&trail.key(key))) {
            let message = format!("`{key}` means nothing without TLS");
            desk.error(&trail.key(key), message, "write `protocol: tls`, or remove it");
        }
        return Some(if protocol == RawRiemannWay::Udp { Way::Udp } else { Way::Tcp });
    }
    let files = [("ca", &raw.ca), ("certificate", &raw.certificate), ("key", &raw.key)];
    for (key, file) in files {
        if let Some(Text(path)) = file {
            desk.needs_file(&trail.key(key), "the file", path, "put it there");
        }
    }
    if !desk.root.has(&trail.key("ca")) {
        let fix = "add `ca: /etc/hostd/upstream-ca.pem` with the certificate of its authority";
        desk.error(trail, "nobody says whose certificate the server must have", fix);
    }
    let has = |key: &str| desk.root.has(&trail.key(key));
    let (certificate, key) = (has("certificate"), has("key"));
    if certificate != key {
        let (there, missing) =
            if certificate { ("certificate", "key") } else { ("key", "certificate") };
        let message = format!("`{there}` is there without `{missing}`");
        desk.error(&trail.key(there), message, format!("add `{missing}`"));
    }
    let path = |text: &Option<Text<super::formats::AbsolutePath>>| {
        text.as_ref().map(|Text(path)| path.clone())
    };
    Some(Way::Tls(UpstreamTls {
        server_name: raw.server_name.as_ref().map(|Text(name)| name.clone()),
        ca: path(&raw.ca)?,
        identity: path(&raw.certificate).zip(path(&raw.key)),
    }))
}

fn graphite(
    raw: RawGraphiteSink,
    trail: &Trail,
    names: &mut Names,
    desk: &mut Desk<'_, '_>,
) -> Option<GraphiteSink> {
    if let Some(Text(path)) = &raw.path {
        let rest = ["{reversed-host}", "{host}", "{service}"]
            .iter()
            .fold(path.clone(), |path, field| path.replace(field, ""));
        if rest.contains(['{', '}']) {
            let fix = "the fields are {reversed-host}, {host} and {service}";
            desk.error(&trail.key("path"), format!("`{path}` has a field unknown"), fix);
        } else if !path.contains("{service}") {
            let message = "all services would be one path";
            desk.error(&trail.key("path"), message, "add {service}");
        }
    }
    let common = Common {
        name: raw.name.map(|Text(name)| name),
        address: raw.address.map(|Text(address)| address),
        wanted: raw.r#where,
        deadline: raw.deadline,
        keep: raw.keep,
        keep_for: raw.keep_for,
    };
    Some(GraphiteSink {
        sink: sink(common, trail, names, desk)?,
        format: match raw.protocol? {
            RawGraphiteFormat::Plaintext => GraphiteFormat::Plaintext,
            RawGraphiteFormat::Pickle => GraphiteFormat::Pickle,
        },
        prefix: raw.prefix.map(|Text(prefix)| prefix).unwrap_or_default(),
        path: raw.path?.0,
    })
}

struct Common {
    name: Option<Name>,
    address: Option<SocketAddr>,
    wanted: Option<Text<Argument>>,
    deadline: Option<Text<Span>>,
    keep: Option<Text<Size>>,
    keep_for: Option<Text<Span>>,
}

fn sink(raw: Common, trail: &Trail, names: &mut Names, desk: &mut Desk<'_, '_>) -> Option<Sink> {
    if let Some(name) = &raw.name {
        let what = format!("the sink's name `{name}`");
        desk.unique(names, name.clone(), &trail.key("name"), what);
    }
    let deadline = desk.span(&trail.key("deadline"), raw.deadline, SECOND, MINUTE * 5);
    let keep_for = desk.span(&trail.key("keep-for"), raw.keep_for, MINUTE, DAY * 365);
    let wanted = match raw.wanted {
        None => None,
        Some(Text(text)) => match query::parse(&text) {
            Ok(query) => Some(Wanted { text, query }),
            Err(error) => {
                let fix = "write a query, such as tagged \"hostd\" and not state = \"ok\"";
                let message = format!("the query is wrong {error}");
                desk.error(&trail.key("where"), message, fix);
                return None;
            }
        },
    };
    let keep = raw.keep.map(|Text(Bytes(bytes))| bytes);
    if let Some(bytes) = keep
        && !(1 << 20..=16 << 30).contains(&bytes)
    {
        let message = format!("{} is no fitting size for the queue", Bytes(bytes));
        desk.error(&trail.key("keep"), message, "write a size from 1M to 16G");
        return None;
    }
    let (name, address) = (raw.name?, raw.address?);
    Some(Sink { name, address, wanted, deadline: deadline?, keep: keep?, keep_for: keep_for? })
}

/// The section as a file has it.
pub(super) fn show(upstream: &Upstream) -> Json {
    let all = |sink: &Sink, more: Json| {
        let mut shown = json!({
            "name": sink.name,
            "address": sink.address,
            "where": sink.wanted.as_ref().map(|wanted| &wanted.text),
            "deadline": exact(sink.deadline),
            "keep": size(sink.keep),
            "keep-for": exact(sink.keep_for),
        });
        if let (Some(shown), Json::Object(more)) = (shown.as_object_mut(), more) {
            shown.extend(more);
        }
        without_null(shown)
    };
    let riemann = |to: &RiemannSink| {
        let (protocol, files) = match &to.way {
            Way::Tcp => ("tcp", None),
            Way::Tls(files) => ("tls", Some(files)),
            Way::Udp => ("udp", None),
        };
        let identity = files.and_then(|files| files.identity.as_ref());
        let more = json!({
            "protocol": protocol,
            "server-name": files.and_then(|files| files.server_name.as_ref()),
            "ca": files.map(|files| &files.ca),
            "certificate": identity.map(|(certificate, _)| certificate),
            "key": identity.map(|(_, key)| key),
            "batch": to.batch,
            "window": to.window,
            "replay-expired": to.replay_expired,
        });
        all(&to.sink, more)
    };
    let graphite = |to: &GraphiteSink| {
        let protocol = match to.format {
            GraphiteFormat::Plaintext => "plaintext",
            GraphiteFormat::Pickle => "pickle",
        };
        let prefix = Some(&to.prefix).filter(|prefix| !prefix.is_empty());
        all(&to.sink, json!({ "protocol": protocol, "prefix": prefix, "path": to.path }))
    };
    json!({
        "riemann": upstream.riemann.iter().map(riemann).collect::<Vec<_>>(),
        "graphite": upstream.graphite.iter().map(graphite).collect::<Vec<_>>(),
    })
}

/// A size without loss.
fn size(bytes: u64) -> String {
    let units = [(30, "G"), (20, "M"), (10, "K")];
    let unit = units.iter().find(|(shift, _)| bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| format!("{bytes}"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use crate::config::{Source, load, not_asked, show};

    fn said(text: &str) -> String {
        match load(&[Source::host("host.yaml", text)], &not_asked) {
            Ok((config, _)) => show(&config),
            Err(problems) => problems.to_string(),
        }
    }

    #[test]
    fn every_key_is_read_and_shown() {
        let text = "
upstream:
  riemann:
    - name: fleet
      address: 192.168.1.5:5554
      protocol: tls
      server-name: riemann.home.arpa
      ca: /etc/hostd/ca.pem
      certificate: /etc/hostd/our.pem
      key: /etc/hostd/our.key
      where: tagged \"hostd\"
      batch: 100
      window: 2
      deadline: 30s
      replay-expired: true
      keep: 1G
      keep-for: 30d
    - {name: plain, address: '127.0.0.1:5555'}
  graphite:
    - {name: carbon, address: '127.0.0.1:2004', protocol: pickle, prefix: home, path: '{host}.{service}'}
";
        insta::assert_snapshot!(said(text));
    }

    #[test]
    fn what_is_wrong_is_said_at_its_place() {
        let text = "
upstream:
  riemann:
    - {name: a, address: '127.0.0.1:1', ca: /ca.pem}
    - {name: a, address: '127.0.0.1:1', protocol: tls, key: /key.pem}
    - {name: b, address: '127.0.0.1:1', where: 'state == \"ok\"'}
    - {name: c, address: '127.0.0.1:1', batch: 0, deadline: 1ms, keep: 1K, keep-for: 1s}
    - {name: d, address: nas}
  graphite:
    - {name: b, address: '127.0.0.1:1', path: '{hots}.{service}'}
    - {name: e, address: '127.0.0.1:1', path: '{host}'}
";
        insta::assert_snapshot!(said(text));
    }
}
