//! Who may come in by HTTP.
//!
//! - With a token, whoever has it: in `Authorization: Bearer`, or in `?token=`
//!   for browsers, which cannot set a header on web sockets.
//! - Without one, whoever reaches the port, by a name that is this machine's:
//!   else the page of a stranger could make its own name point here ("DNS
//!   rebinding") and read. An IP address cannot be made to point elsewhere.
//! - Web pages only from the same place, or those that the owner has named: a
//!   browser sends web sockets for anybody, and says for whom in `Origin`.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;

use super::refusal;
use crate::riemann::stats::{Reason, Stats};

/// Shortest token: 16 random characters cannot be guessed.
pub const SHORTEST: usize = 16;

/// Longest token.
const LONGEST: usize = 1024;

/// A secret that is compared in the same time whatever is wrong with the other.
#[derive(Clone)]
pub struct Token(Vec<u8>);

/// Why a file holds no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Too short, or too long.
    #[error("a token has 16 to 1024 characters, `openssl rand -hex 16` makes one")]
    Length,
    /// What cannot stand in a header.
    #[error("a token has letters, digits and signs, no spaces, in one line")]
    Characters,
}

impl Token {
    /// From the text of a file; white space around it does not count.
    pub fn new(text: &[u8]) -> Result<Self, TokenError> {
        let text = text.trim_ascii();
        if !text.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::Characters);
        }
        if !(SHORTEST..=LONGEST).contains(&text.len()) {
            return Err(TokenError::Length);
        }
        Ok(Self(text.to_vec()))
    }

    fn is(&self, other: &[u8]) -> bool {
        // Looks at every byte of the other, which tells only how long that is.
        let mut differ = usize::from(self.0.len() != other.len());
        for (at, byte) in other.iter().enumerate() {
            let own = self.0.get(at % self.0.len()).copied().unwrap_or_default();
            differ |= usize::from(own ^ byte);
        }
        black_box(differ) == 0
    }
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To read.
    Read,
    /// To send events.
    Send,
}

/// Decides; see the module.
#[derive(Clone, Default)]
pub struct Guard {
    token: Option<Token>,
    read_token: Option<Token>,
    names: Vec<String>,
    origins: Vec<String>,
    certified: bool,
}

/// Somebody who may come in.
#[derive(Debug)]
pub struct Admitted {
    /// The web page of another place that the answer must be open to.
    origin: Option<HeaderValue>,
}

impl Admitted {
    /// The answer with what browsers want to see before they pass it on.
    pub fn pass(self, mut answer: Response) -> Response {
        if let Some(origin) = self.origin {
            answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.headers_mut().insert(header::VARY, HeaderValue::from_static("origin"));
        }
        answer
    }
}

impl Guard {
    /// Without tokens; `names` are this machine's, `origins` the pages of
    /// others that may come in.
    pub fn new(names: Vec<String>, origins: Vec<String>) -> Self {
        Self { names, origins, ..Self::default() }
    }

    /// With a token for everything, and one for reading.
    #[must_use]
    pub fn with_tokens(mut self, all: Option<Token>, read: Option<Token>) -> Self {
        (self.token, self.read_token) = (all, read);
        self
    }

    /// The connection itself has proved who it is, by a certificate.
    #[must_use]
    pub fn certified(mut self) -> Self {
        self.certified = true;
        self
    }

    /// Lets somebody in, or counts and says why not.
    pub fn admit(
        &self,
        wish: Wish,
        uri: &Uri,
        headers: &HeaderMap,
        stats: &Stats,
    ) -> Result<Admitted, Box<Response>> {
        self.judge(wish, uri, headers).map_err(|reason| {
            stats.refuse(reason);
            let mut answer = refusal(StatusCode::FORBIDDEN, reason.explain());
            if reason == Reason::BadToken {
                *answer.status_mut() = StatusCode::UNAUTHORIZED;
                let bearer = HeaderValue::from_static("Bearer");
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
            }
            Box::new(answer)
        })
    }

    fn judge(&self, wish: Wish, uri: &Uri, headers: &HeaderMap) -> Result<Admitted, Reason> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        if self.token.is_none() && self.read_token.is_none() {
            if !self.certified && !host.is_some_and(|host| self.is_ours(host)) {
                return Err(Reason::BadHost);
            }
        } else if !self.has_token(wish, uri, headers) {
            return Err(Reason::BadToken);
        }
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Ok(Admitted { origin: None });
        };
        let page = origin.to_str().unwrap_or_default();
        let place = page.split_once("://").map(|(_, place)| place);
        if place.is_some() && place == host {
            return Ok(Admitted { origin: None });
        }
        let known = self.origins.iter().any(|known| known == page);
        known.then(|| Admitted { origin: Some(origin.clone()) }).ok_or(Reason::BadOrigin)
    }

    fn has_token(&self, wish: Wish, uri: &Uri, headers: &HeaderMap) -> bool {
        let header = headers.get(header::AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
        });
        let given = match header {
            Some(token) => token.to_vec(),
            None => match parameter(uri, "token") {
                Some(token) => token.into_bytes(),
                None => return false,
            },
        };
        let is = |token: &Option<Token>| token.as_ref().is_some_and(|token| token.is(&given));
        // Both, so that the time does not tell which.
        let (all, read) = (is(&self.token), is(&self.read_token));
        all || (read && wish == Wish::Read)
    }

    fn is_ours(&self, host: &str) -> bool {
        let port = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let name = match host.rsplit_once(':') {
            Some((name, digits)) if port(digits) => name,
            _ => host,
        };
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let is_address =
            address.unwrap_or(name).parse::<IpAddr>().is_ok() || host.parse::<SocketAddr>().is_ok();
        let name = name.trim_end_matches('.');
        is_address
            || name.eq_ignore_ascii_case("localhost")
            || self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// A parameter of the request, decoded.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let all: Vec<(String, String)> =
        axum::extract::Query::try_from_uri(uri).map(|axum::extract::Query(all)| all).ok()?;
    all.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn judged(guard: &Guard, wish: Wish, uri: &str, headers: &[(&str, &str)]) -> Option<Reason> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().unwrap();
            map.insert(name, value.parse().unwrap());
        }
        guard.judge(wish, &uri.parse().unwrap(), &map).err()
    }

    #[test]
    fn names_of_others_do_not_lead_here() {
        let guard = Guard::new(vec!["nas".into(), "nas.lan".into()], Vec::new());
        let judged = |host| judged(&guard, Wish::Send, "/events", &[("host", host)]);
        for host in [
            "localhost",
            "LOCALHOST:5556",
            "127.0.0.1:5556",
            "[::1]:5556",
            "[::1]",
            "nas:1",
            "Nas.lan.",
        ] {
            assert_eq!(judged(host), None, "{host}");
        }
        for host in ["", "evil.example", "evil.example:5556", "localhost.evil.example", "nas.evil"]
        {
            assert_eq!(judged(host), Some(Reason::BadHost), "{host}");
        }
        assert_eq!(super::tests::judged(&guard, Wish::Read, "/", &[]), Some(Reason::BadHost));
    }

    #[test]
    fn pages_of_others_are_named_by_the_owner() {
        let guard = Guard::new(Vec::new(), vec!["https://grafana.lan".into()]);
        let judged = |origin| {
            let headers = [("host", "127.0.0.1:5556"), ("origin", origin)];
            judged(&guard, Wish::Read, "/index", &headers)
        };
        assert_eq!(judged("http://127.0.0.1:5556"), None);
        assert_eq!(judged("https://grafana.lan"), None);
        for origin in ["null", "http://127.0.0.1:5557", "https://grafana.lan:1", "http://evil", ""]
        {
            assert_eq!(judged(origin), Some(Reason::BadOrigin), "{origin}");
        }
    }

    #[test]
    fn tokens_open_what_they_are_for() {
        let token = |text: &str| Some(Token::new(text.as_bytes()).unwrap());
        let read = "read-only-0123456789";
        let guard = Guard::default().with_tokens(token(SECRET), token(read));
        let bearer = |text: &str| format!("Bearer {text}");
        let judged = |wish, uri: &str, text: Option<String>| {
            let headers: Vec<_> = text.iter().map(|t| ("authorization", t.as_str())).collect();
            super::tests::judged(&guard, wish, uri, &headers)
        };
        assert_eq!(judged(Wish::Send, "/", Some(bearer(SECRET))), None, "and any host");
        assert_eq!(judged(Wish::Read, "/", Some(bearer(read))), None);
        assert_eq!(judged(Wish::Send, "/", Some(bearer(read))), Some(Reason::BadToken));
        assert_eq!(judged(Wish::Read, &format!("/?a=b&token={read}"), None), None);
        assert_eq!(judged(Wish::Read, "/?token=%30123456789abcdef", None), None, "decoded");
        for wrong in ["", "0", "0123456789abcdeg", "0123456789abcdef0", "1123456789abcdef"] {
            assert_eq!(judged(Wish::Read, "/", Some(bearer(wrong))), Some(Reason::BadToken));
            let uri = format!("/?token={wrong}");
            assert_eq!(judged(Wish::Read, &uri, None), Some(Reason::BadToken));
        }
        assert_eq!(judged(Wish::Read, "/", Some(SECRET.into())), Some(Reason::BadToken));
        assert_eq!(judged(Wish::Read, "/", None), Some(Reason::BadToken));
    }

    #[test]
    fn tokens_are_long_and_plain() {
        assert!(Token::new(b" 0123456789abcdef\n").is_ok());
        assert_eq!(Token::new(b"0123456789abcde").err(), Some(TokenError::Length));
        assert_eq!(Token::new(b"").err(), Some(TokenError::Length));
        assert_eq!(Token::new(b"0123456789 abcdef").err(), Some(TokenError::Characters));
        assert_eq!(Token::new("0123456789abcdefü".as_bytes()).err(), Some(TokenError::Characters));
    }
}
