//! The page of the D-Bus interfaces, made from what they say about themselves:
//! `docs/dbus.md`.

use std::fmt::Write as _;

use super::dbus::introspected;
use super::names;
use crate::ask::Right;

const HEAD: &str = "# D-Bus

<!-- Made from src/api/dbus.rs. After a change there:
     HOSTD_BLESS=1 cargo test --test docs -->

hostd is `org.hostd.Host1` on the system bus. The same objects are on the private socket,
`/run/hostd/control.sock`, peer to peer, for machines without a bus. All interfaces but one are on
`/org/hostd/Host1`; each VM has an object of its own, `/org/hostd/Host1/vm/NAME` with
`org.hostd.Host1.VirtualMachine`, where what cannot stand in a path is `_` and two hexadecimal
digits (`win-11` is `win_2d11`). `org.freedesktop.DBus.ObjectManager` lists them, and
`org.freedesktop.DBus.Properties` tells when they change.

    busctl tree org.hostd.Host1
    busctl introspect org.hostd.Host1 /org/hostd/Host1/vm/gaming
    busctl call org.hostd.Host1 /org/hostd/Host1/vm/gaming org.hostd.Host1.VirtualMachine Start
    busctl monitor org.hostd.Host1

A method returns one string, the document that the command named beside it prints with `--json`
([json.md](json.md)). An error is `org.hostd.Error.` and `Usage`, `Denied`, `NotFound`, `Refused` or
`Failed`, with two strings: what is wrong, and what to do.

Looking is free. What needs a right says so; on the bus polkit decides, and the rule file that comes
with hostd grants members of the group `hostd` all but `org.hostd.Host1.boot.setup`. On the private
socket root and that group have them.

";

/// The whole page.
pub fn page() -> String {
    let mut out = HEAD.to_owned();
    out.push_str("| right | for |\n|---|---|\n");
    for right in Right::ALL {
        let _ = writeln!(out, "| `{}` | {} |", right.action(), super::gate::verb(right));
    }
    for (name, xml) in introspected() {
        let at = if name == names::VIRTUAL_MACHINE { "the object of a VM" } else { names::OBJECT };
        let _ =
            write!(out, "\n## {name}\n\nOn {}.\n", at.replace(names::OBJECT, "`/org/hostd/Host1`"));
        out.push_str(&interface(&xml));
    }
    out
}

/// The members of one interface as a table.
fn interface(xml: &str) -> String {
    let mut out = "\n| | | |\n|---|---|---|\n".to_owned();
    let (mut about, mut comment) = (String::new(), false);
    let mut member: Option<(&str, String, Vec<String>)> = None;
    for line in xml.lines().map(str::trim) {
        match line {
            "<!--" => (comment, about) = (true, String::new()),
            "-->" => comment = false,
            text if comment => {
                about.push_str(if about.is_empty() { "" } else { " " });
                about.push_str(text);
            }
            tag => {
                let attribute = |key: &str| {
                    let rest = tag.split_once(&format!(" {key}=\""))?.1;
                    Some(rest.split_once('"')?.0.to_owned())
                };
                let (name, kind) = (attribute("name"), attribute("type").unwrap_or_default());
                let begins = ["method", "signal", "property"];
                let begun = begins.into_iter().find(|kind| tag.starts_with(&format!("<{kind} ")));
                if let Some(begun) = begun {
                    let given = if begun == "property" { vec![kind] } else { Vec::new() };
                    member = Some((begun, name.unwrap_or_default(), given));
                } else if tag.starts_with("<arg ")
                    && attribute("direction").as_deref() != Some("out")
                    && let Some((_, _, args)) = &mut member
                {
                    args.push(format!("{kind} {}", name.unwrap_or_default()));
                }
                let ended = tag.starts_with("</") || (tag.ends_with("/>") && begun.is_some());
                let begun_property = begun == Some("property");
                if (ended || begun_property)
                    && let Some((kind, name, args)) = member.take()
                {
                    let shape = match kind {
                        "property" => format!("`{name}` {}", args.concat()),
                        _ => format!("`{name}({})`", args.join(", ")),
                    };
                    let _ = writeln!(out, "| {kind} | {shape} | {} |", about.replace('|', "\\|"));
                    about.clear();
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_on_the_page_with_a_word_about_it() {
        let page = page();
        for (name, xml) in introspected() {
            assert!(page.contains(&format!("\n## {name}\n")), "{name}");
            let members = ["<method ", "<signal ", "<property "];
            let all = xml.lines().filter(|line| members.iter().any(|m| line.contains(m)));
            let rows = interface(&xml);
            let rows: Vec<_> = rows.lines().skip(3).collect();
            assert_eq!(rows.len(), all.count(), "{name}");
            for row in rows {
                assert!(!row.ends_with("|  |"), "nothing is said about {row} of {name}");
            }
        }
    }

    #[test]
    fn every_right_has_an_action_and_every_action_a_right() {
        let policy = include_str!("../../polkit/org.hostd.Host1.policy");
        let mut ids: Vec<_> = policy
            .split("<action id=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        let mut rights = Right::ALL.map(Right::action);
        ids.sort_unstable();
        rights.sort_unstable();
        assert_eq!(ids, rights);
        let rule = include_str!("../../polkit/50-hostd.rules");
        for right in Right::ALL {
            let granted = rule.contains(&format!("\"{}\"", right.action()));
            assert_eq!(granted, right != Right::BootSetup, "{right:?}");
        }
    }
}
