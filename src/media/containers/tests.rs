//! A small engine on a socket of its own, which answers as Docker documents.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;
use crate::host::fake::FakeHost;
use crate::media::engine::{Health, HostConfig, Policy, State};
use crate::media::restart;

fn listed(name: &str, state: &str, status: &str) -> Listed {
    Listed {
        id: format!("{name}00"),
        names: Some(vec![format!("/{name}")]),
        image: None,
        state: Some(state.to_owned()),
        status: Some(status.to_owned()),
    }
}

fn details(policy: &str, code: i64, oom: bool, health: &str) -> Details {
    Details {
        state: State {
            oom_killed: oom,
            exit_code: Some(code),
            error: None,
            health: Some(Health { status: health.to_owned(), log: None }),
        },
        restart_count: Some(0),
        host_config: HostConfig { restart_policy: Some(Policy { name: policy.to_owned() }) },
        mounts: None,
    }
}

#[test]
fn each_way_to_be_down_is_told_apart() {
    use Severity::{Critical, Ok as Fine, Unknown, Warning};
    for (state, policy, code, oom, health, severity, says) in [
        ("running", "no", 0, false, "", Fine, "plex runs"),
        ("running", "always", 0, false, "healthy", Fine, "is healthy"),
        ("running", "always", 0, false, "starting", Warning, "has not passed yet"),
        ("running", "always", 0, false, "unhealthy", Critical, "health check fails"),
        ("running", "always", 0, false, "odd", Unknown, "not known"),
        ("restarting", "always", 1, false, "", Critical, "ended with 1 and is being restarted"),
        ("paused", "always", 0, false, "", Warning, "is paused"),
        ("created", "always", 0, false, "", Warning, "was never started"),
        ("exited", "always", 0, false, "", Warning, "was stopped"),
        ("exited", "unless-stopped", 143, false, "", Warning, "was stopped"),
        ("exited", "unless-stopped", 137, false, "", Critical, "(SIGKILL) and stays down"),
        ("exited", "always", 137, true, "", Critical, "it ran out of memory"),
        ("exited", "on-failure", 0, false, "", Fine, "is off"),
        ("exited", "on-failure", 2, false, "", Critical, "ended with 2 and stays down"),
        ("exited", "no", 0, false, "", Fine, "is off"),
        ("exited", "", 1, false, "", Warning, "ended with 1"),
        ("dead", "always", 0, false, "", Critical, "is dead"),
        ("levitating", "always", 0, false, "", Unknown, "does not know"),
    ] {
        let one = listed("plex", state, "");
        let judged = judge(Engine::Docker, &one, &details(policy, code, oom, health), true, 0);
        let judged = judged.unwrap();
        assert_eq!(judged.health, severity, "{state} {policy} {code}: {judged:?}");
        assert!(judged.message.contains(says), "{judged:?}");
        let dull = judged.health == Severity::Ok || state == "running";
        assert!(dull || !judged.advice.is_empty(), "{judged:?}");
    }
    let once = listed("backup", "exited", "Exited (1) 2 days ago");
    assert_eq!(judge(Engine::Docker, &once, &details("no", 1, false, ""), false, 0), None);
    let loops = judge(
        Engine::Docker,
        &listed("plex", "running", ""),
        &details("always", 1, false, ""),
        true,
        3,
    );
    assert!(loops.unwrap().message.contains("3 restarts within ten minutes; it ended with 1"));
}

#[test]
fn more_is_asked_only_when_there_is_more_to_know() {
    let of = |status: &str| key(&listed("plex", "running", status));
    assert_eq!(of("Up 2 hours (healthy)"), of("Up 3 hours (healthy)"));
    assert_ne!(of("Up 2 hours (healthy)"), of("Up 2 hours (unhealthy)"));
    assert!(is_young(&listed("plex", "running", "Up Less than a second")));
    assert!(!is_young(&listed("plex", "running", "Up 2 hours")));
}

#[derive(Default)]
struct Said {
    /// The bodies by path; others are 404.
    bodies: BTreeMap<String, String>,
    asked: Vec<String>,
}

struct Lab {
    _dir: tempfile::TempDir,
    fake: FakeHost,
    said: Arc<Mutex<Said>>,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.dir("/run").unwrap();
        let said: Arc<Mutex<Said>> = Arc::default();
        let socket = fake.host().sys.path(Engine::Docker.socket());
        let listener = UnixListener::bind(socket).unwrap();
        let told = Arc::clone(&said);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                let line = String::from_utf8_lossy(&head[..read]);
                let line = line.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
                let body = {
                    let mut said = told.lock().unwrap();
                    said.asked.push(line.clone());
                    said.bodies.get(&line).cloned()
                };
                let reply = match body {
                    Some(body) if body.is_empty() => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
                    Some(body) => format!(
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                        body.len()
                    ),
                    None => {
                        let body = r#"{"message":"no such container"}"#;
                        format!(
                            "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        )
                    }
                };
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        });
        Self { _dir: dir, fake, said }
    }

    fn says(&self, question: &str, body: &str) {
        self.said.lock().unwrap().bodies.insert(question.to_owned(), body.to_owned());
    }

    /// One container in the list, and what is known of it.
    fn plex(&self, state: &str, status: &str, details: &str) {
        let list = format!(
            r#"[{{"Id":"c0ffee","Names":["/plex"],"State":"{state}","Status":"{status}"}}]"#
        );
        self.says("GET /containers/json?all=1", &list);
        let policy = r#""HostConfig":{"RestartPolicy":{"Name":"always"}}"#;
        self.says("GET /containers/c0ffee/json", &format!("{{{policy},{details}}}"));
    }

    async fn look(&self, containers: &mut Containers) -> Vec<(ServiceView, Target)> {
        self.fake.clock.advance(OFTEN);
        containers.round(&self.fake.host()).await
    }

    fn asked(&self) -> usize {
        std::mem::take(&mut self.said.lock().unwrap().asked).len()
    }
}

#[tokio::test]
async fn the_life_of_a_container() {
    let lab = Lab::new();
    let mut containers = Containers::default();
    lab.plex(
        "running",
        "Up 2 hours (healthy)",
        r#""State":{"Health":{"Status":"healthy"}},"RestartCount":7,
           "Mounts":[{"Type":"bind","Source":"/tank/media","Destination":"/media"}]"#,
    );
    let all = lab.look(&mut containers).await;
    let [(view, target)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((view.name.as_str(), view.kind.as_str()), ("container plex", "container"));
    assert_eq!((view.health, view.discovered, view.restarts), (Severity::Ok, true, 0));
    assert_eq!(
        (view.shares[0].name.as_str(), view.shares[0].path.as_str()),
        ("/media", "/tank/media")
    );
    assert_eq!(lab.asked(), 2);
    // Nothing has changed: one request.
    lab.look(&mut containers).await;
    assert_eq!(lab.asked(), 1);
    // Asked by hand.
    let host = lab.fake.host();
    lab.says("POST /containers/c0ffee/restart?t=10", "");
    let done = restart::service(&host, "container plex", Some(target.clone())).await.unwrap();
    assert_eq!(done.message, "container plex was restarted");
    let gone = Target::Container(Engine::Docker, "beef".to_owned());
    let refusal = restart::service(&host, "container x", Some(gone)).await.unwrap_err();
    assert!(refusal.message.contains("status 404: no such container"), "{refusal:?}");
    // It crashes and crashes.
    for count in 8..=10 {
        let details = format!(r#""State":{{"ExitCode":1}},"RestartCount":{count}"#);
        lab.plex("restarting", "Restarting (1) 3 seconds ago", &details);
        let all = lab.look(&mut containers).await;
        assert_eq!((all[0].0.health, all[0].0.restarts), (Severity::Critical, count - 7));
    }
    let all = lab.look(&mut containers).await;
    assert!(all[0].0.message.contains("3 restarts within ten minutes"), "{all:?}");
    lab.plex("exited", "Exited (137) 1 minute ago", r#""State":{"OOMKilled":true,"ExitCode":137}"#);
    let all = lab.look(&mut containers).await;
    assert!(all[0].0.message.contains("out of memory"), "{all:?}");
    lab.says("GET /containers/json?all=1", "[]");
    assert!(lab.look(&mut containers).await.is_empty());
}

#[tokio::test]
async fn an_engine_that_speaks_rubbish_is_told_and_its_containers_are_unknown() {
    let lab = Lab::new();
    let mut containers = Containers::default();
    lab.plex("running", "Up 2 hours", r#""State":{}"#);
    assert_eq!(lab.look(&mut containers).await[0].0.health, Severity::Ok);
    lab.says("GET /containers/json?all=1", "{\"what\": 1}");
    let all = lab.look(&mut containers).await;
    let healths: Vec<_> = all.iter().map(|(view, _)| (view.name.as_str(), view.health)).collect();
    let expected =
        [("container plex", Severity::Unknown), ("containers of docker", Severity::Critical)];
    assert_eq!(healths, expected);
    // Docker is stopped: systemd would start it for who connects to its socket.
    lab.asked();
    lab.fake.units.with(|systemd| systemd.there = true);
    let all = lab.look(&mut containers).await;
    assert_eq!((all.len(), all[0].0.health, lab.asked()), (1, Severity::Unknown, 0));
    assert_eq!(all[0].0.message, "docker.service does not run");
}

#[tokio::test]
async fn a_machine_without_containers_is_asked_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(dir.path());
    assert!(Containers::default().round(&fake.host()).await.is_empty());
}
