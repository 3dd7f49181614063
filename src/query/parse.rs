//! Tokens → [`Expr`], by recursive descent; the first mistake ends it.

use regex::RegexBuilder;

use super::ast::{Expr, Field, Literal, Operand, Pattern};
use super::error::QueryError;
use super::lex::{self, Kind, Token};
use super::{MAX_DEPTH, MAX_LENGTH, Query, glued};

/// Compiled size of one pattern, in bytes.
const PATTERN_SIZE: usize = 256 * 1024;

/// Patterns in one query.
const MAX_PATTERNS: usize = 64;

/// Reads a query.
///
/// # Errors
/// The place of the first mistake, with what was expected there. Regular
/// expressions are those of the `regex` crate: without look-around and back
/// references, and `\w`, `\d`, `\s` know Unicode.
pub fn parse(text: &str) -> Result<Query, QueryError> {
    if text.len() > MAX_LENGTH {
        let what = format!("expected at most {MAX_LENGTH} bytes, found {}", text.len());
        return Err(QueryError::new(text, MAX_LENGTH, what));
    }
    let next = lex::token(text, 0)?;
    let mut parser = Parser { text, next, depth: 0, patterns: 0 };
    let expr = parser.predicate()?;
    match parser.next.kind {
        Kind::End => Ok(expr.into()),
        Kind::Close => Err(parser.error("expected `and`, `or` or the end; no `(` is open here")),
        _ => Err(parser.expected("`and`, `or` or the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    next: Token<'a>,
    depth: usize,
    patterns: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, what: impl Into<String>) -> QueryError {
        QueryError::new(self.text, self.next.start, what)
    }

    /// The next token is not one of `what`.
    fn expected(&self, what: &str) -> QueryError {
        if let Kind::Name(name) = self.next.kind
            && let Some(error) = glued::explain(self.text, self.next.start, name)
        {
            return error;
        }
        let token = self.text[self.next.start..self.next.end].chars().take(40);
        let found = match self.next.kind {
            Kind::End => "the end".to_owned(),
            _ => format!("`{}`", token.collect::<String>()),
        };
        self.error(format!("expected {what}, found {found}"))
    }

    fn advance(&mut self) -> Result<Token<'a>, QueryError> {
        let following = lex::token(self.text, self.next.end)?;
        Ok(std::mem::replace(&mut self.next, following))
    }

    fn skip_if(&mut self, kind: &Kind<'_>) -> Result<bool, QueryError> {
        let there = self.next.kind == *kind;
        if there {
            self.advance()?;
        }
        Ok(there)
    }

    fn predicate(&mut self) -> Result<Expr, QueryError> {
        self.chain(&Kind::Or, |p| p.chain(&Kind::And, Self::negation, Expr::And), Expr::Or)
    }

    fn chain(
        &mut self,
        word: &Kind<'_>,
        mut part: impl FnMut(&mut Self) -> Result<Expr, QueryError>,
        build: fn(Vec<Expr>) -> Expr,
    ) -> Result<Expr, QueryError> {
        let first = part(self)?;
        if self.next.kind != *word {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_if(word)? {
            parts.push(part(self)?);
        }
        Ok(build(parts))
    }

    fn negation(&mut self) -> Result<Expr, QueryError> {
        if !matches!(self.next.kind, Kind::Not | Kind::Open) {
            return self.simple();
        }
        if self.depth == MAX_DEPTH {
            return Err(self.error(format!("expected at most {MAX_DEPTH} nested levels")));
        }
        self.depth += 1;
        let open = self.advance()?;
        let expr = if open.kind == Kind::Not {
            Expr::Not(Box::new(self.negation()?))
        } else {
            let inner = self.predicate()?;
            if !self.skip_if(&Kind::Close)? {
                return Err(self.expected("`and`, `or` or `)`"));
            }
            inner
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn simple(&mut self) -> Result<Expr, QueryError> {
        if self.skip_if(&Kind::Tagged)? {
            return Ok(Expr::Tagged(self.string()?.0));
        }
        let start = self.next.start;
        let left = self.value("a field, a value, `not`, `tagged` or `(`")?;
        match self.next.kind {
            Kind::Equal => {
                self.advance()?;
                Ok(Expr::Equal(left, self.value("a value")?))
            }
            Kind::NotEqual => {
                self.advance()?;
                Ok(Expr::NotEqual(left, self.value("a value")?))
            }
            Kind::Compare(how) => {
                self.advance()?;
                let Kind::Number(right) = self.next.kind else {
                    let error = self.expected("a number");
                    let swapped = matches!(self.next.kind, Kind::Name(_)) && error.hint.is_none();
                    let hint = "the field stands on the left: `metric > 1`";
                    return Err(if swapped { error.hint(hint) } else { error });
                };
                self.advance()?;
                Ok(Expr::Compare(left, how, right))
            }
            Kind::Like => {
                self.advance()?;
                Ok(Expr::Like(left, self.pattern(like)?))
            }
            Kind::Regex => {
                self.advance()?;
                Ok(Expr::Regex(left, self.pattern(str::to_owned)?))
            }
            _ => self.bare(start, left),
        }
    }

    /// A value by itself. A word that looks like a glued or shouted operator
    /// would silently be an absent attribute: it is refused.
    fn bare(&self, start: usize, value: Operand) -> Result<Expr, QueryError> {
        let explained = match &value {
            Operand::Field(field) => glued::explain(self.text, start, field.name()),
            Operand::Literal(_) => None,
        };
        explained.map_or(Ok(Expr::Truthy(value)), Err)
    }

    fn value(&mut self, what: &str) -> Result<Operand, QueryError> {
        let value = match &mut self.next.kind {
            Kind::Nil => Operand::Literal(Literal::Nil),
            Kind::Bool(value) => Operand::Literal(Literal::Bool(*value)),
            Kind::Number(number) => Operand::Literal(Literal::Number(*number)),
            Kind::Text(text) => Operand::Literal(Literal::Text(std::mem::take(text))),
            Kind::Name(name) => Operand::Field(Field::named(name)),
            Kind::Open
            | Kind::Close
            | Kind::And
            | Kind::Or
            | Kind::Not
            | Kind::Tagged
            | Kind::Equal
            | Kind::NotEqual
            | Kind::Compare(_)
            | Kind::Like
            | Kind::Regex
            | Kind::End => return Err(self.expected(what)),
        };
        self.advance()?;
        Ok(value)
    }

    /// A string and where it begins.
    fn string(&mut self) -> Result<(String, usize), QueryError> {
        let Kind::Text(text) = &mut self.next.kind else {
            return Err(self.expected("a string in double quotes"));
        };
        let text = std::mem::take(text);
        Ok((text, self.advance()?.start))
    }

    fn pattern(&mut self, regex: impl Fn(&str) -> String) -> Result<Pattern, QueryError> {
        let (text, start) = self.string()?;
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            let what = format!("expected at most {MAX_PATTERNS} patterns");
            return Err(QueryError::new(self.text, start, what));
        }
        let built = RegexBuilder::new(&regex(&text))
            .size_limit(PATTERN_SIZE)
            .dfa_size_limit(PATTERN_SIZE)
            .nest_limit(64)
            .build();
        match built {
            Ok(regex) => Ok(Pattern { text, regex }),
            Err(error) => {
                // The last line says what; those before draw the pattern again.
                let said = error.to_string();
                let said = said.lines().last().unwrap_or_default();
                let said = said.strip_prefix("error: ").unwrap_or(said);
                let what = format!("expected a regular expression: {said}");
                Err(QueryError::new(self.text, start, what))
            }
        }
    }
}

/// `%` is any text within a line, the rest is itself, from end to end.
fn like(glob: &str) -> String {
    let parts: Vec<String> = glob.split('%').map(regex::escape).collect();
    format!("^(?:{})$", parts.join(".*"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> QueryError {
        parse(text).expect_err(text)
    }

    #[test]
    fn what_the_reference_takes_silently_has_a_place() {
        for (text, offset) in [
            (r#"state = "ok" garbage"#, 13),
            (r#"state = "ok" AND host = "a""#, 13),
            ("true)", 4),
            (r#"state == "ok""#, 6),
            ("host=1", 4),
            ("metric>2", 6),
            (r#"host="nas""#, 4),
            ("metric >2", 7),
            ("metric> 2", 6),
            ("NOT host = 1", 0),
            ("host = 1 and metric>2", 19),
            ("!host", 0),
            ("host = 1 && host = 2", 9),
        ] {
            assert_eq!(refused(text).offset, offset, "{text}");
        }
    }

    #[test]
    fn mistakes_have_a_place_and_an_expectation() {
        for (text, offset, part) in [
            ("", 0, "the end"),
            ("host =", 6, "a value"),
            ("(host = 1", 9, "`)`"),
            ("()", 1, "a field"),
            ("metric > \"1\"", 9, "a number"),
            ("1 < metric", 4, "a number"),
            ("host =~ x", 8, "double quotes"),
            ("tagged cat", 7, "double quotes"),
            ("host ~= \"(\"", 8, "regular expression"),
            ("host ~= \"(?=a)\"", 8, "look-around"),
            ("host ~= \"\\\\d{9999}{9999}\"", 8, "size limit"),
            ("and", 0, "a field"),
            ("a # b", 2, "'#'"),
            ("host = \"a", 7, "closing"),
        ] {
            let error = refused(text);
            assert_eq!(error.offset, offset, "{text}: {error}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
        assert!(refused("1 < metric").caret().contains("hint: the field stands on the left"));
        assert_eq!(
            refused("state == \"ok\"").caret(),
            "state == \"ok\"\n      ^\n`==` is not an operator\nhint: write `=`"
        );
    }

    #[test]
    fn an_operator_lets_odd_names_be_names() {
        assert!(parse("a=b = \"x\"").is_ok());
        assert!(parse("AND = \"x\"").is_ok());
    }

    #[test]
    fn length_depth_and_patterns_are_bounded() {
        let nested = |n: usize| format!("{}true{}", "(".repeat(n), ")".repeat(n));
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(refused(&nested(MAX_DEPTH + 1)).offset, MAX_DEPTH);
        assert!(parse(&"not ".repeat(MAX_DEPTH + 1)).is_err());
        assert!(parse(&" ".repeat(MAX_LENGTH + 1)).is_err());
        assert!(parse(&vec!["true"; 1000].join(" or ")).is_ok());
        assert!(parse(&vec!["host =~ \"%\""; MAX_PATTERNS + 1].join(" or ")).is_err());
    }

    #[test]
    fn not_binds_tighter_than_and_than_or() {
        let same = |a: &str, b: &str| assert_eq!(parse(a).unwrap(), parse(b).unwrap(), "{a}");
        same("not host = 1 and host = 2", "(not (host = 1)) and (host = 2)");
        same("a or b and c", "a or (b and c)");
        same("a and b or c and d", "(a and b) or (c and d)");
        same("not not a or b", "(not (not a)) or b");
        same("host,=,null", "host = nil");
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            let _ = parse(&text).map_err(|e| e.caret());
        }

        #[test]
        fn never_panics_on_near_misses(words in prop::collection::vec(prop::sample::select(vec![
            "host", "metric", "and", "or", "not", "(", ")", "=", "!=", "=~", "~=", ">", "<=", "==",
            "\"", "\"a%\"", "\"(\"", "\\", "1", "1.5", "-", "5N", "nil", "tagged", " ", ",", "AND",
            "ä", ":", "\u{0}", "\"\\u12\"", "=~\"x\"", "NaN", "true",
        ]), 0..16), gap in prop::sample::select(vec!["", " "])) {
            let text = words.join(gap);
            if let Err(error) = parse(&text) {
                prop_assert!(error.offset <= text.len());
                prop_assert!(!error.caret().is_empty());
            }
        }
    }
}
