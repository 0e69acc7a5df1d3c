//! Which sidecars an agent is: by what a certificate proves, else by what a node says of itself.

use std::fmt;

/// Who a sidecar is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who<'a> {
    /// The SPIFFE ID in its certificate.
    pub spiffe: Option<&'a str>,
    /// The DNS names in its certificate.
    pub dns: &'a [String],
    /// xDS node.id.
    pub node_id: &'a str,
    /// xDS node.cluster.
    pub node_cluster: &'a str,
}

/// A text in which `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glob(String);

impl Glob {
    /// Longest text: one less than an integer has bits.
    pub const MAX: usize = 127;

    /// Any text that is not empty, not only stars, and not too long.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let says_something = text.bytes().any(|byte| byte != b'*');
        (says_something && text.len() <= Self::MAX).then(|| Self(text.to_owned()))
    }

    /// Whether a text is covered.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            match rest.find(part) {
                Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        true
    }

    /// Whether some text is covered by both.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        match (self.0.contains('*'), other.0.contains('*')) {
            (false, _) => other.matches(&self.0),
            (_, false) => self.matches(&other.0),
            (true, true) => self.may_meet(other) && meet(self.0.as_bytes(), other.0.as_bytes()),
        }
    }

    /// Whether what stands before the first star, and behind the last, does not tell them apart.
    fn may_meet(&self, other: &Self) -> bool {
        let start = |glob: &Self| glob.0.split('*').next().unwrap_or_default().to_owned();
        let end = |glob: &Self| glob.0.rsplit('*').next().unwrap_or_default().to_owned();
        let (own, their) = (start(self), start(other));
        let starts = own.starts_with(&their) || their.starts_with(&own);
        let (own, their) = (end(self), end(other));
        starts && (own.ends_with(&their) || their.ends_with(&own))
    }

    /// How closely it names a text: exact before glob, then the number of characters.
    fn closeness(&self) -> usize {
        if self.0.contains('*') {
            1 + self.0.bytes().filter(|byte| *byte != b'*').count()
        } else {
            usize::MAX
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether two globs have a text in common: a table of which rests of them do, a row for each rest of `a`, a bit for each of `b`.
/// Two rests do that begin with the same character if what follows does, and one that begins with a star if it does without
/// the star, or with the star and without the first of the other.
fn meet(a: &[u8], b: &[u8]) -> bool {
    // Where each byte stands in `b`; two stars are one.
    let mut places = [0_u128; 256];
    let mut length = 0;
    for (at, byte) in b.iter().enumerate() {
        if *byte == b'*' && b.get(at + 1) == Some(&b'*') {
            continue;
        }
        if let Some(places) = places.get_mut(usize::from(*byte)) {
            *places |= 1 << length;
        }
        length += 1;
    }
    let at = |byte: u8| places.get(usize::from(byte)).copied().unwrap_or_default();
    let without_star = |row: u128| row | at(b'*') & (row >> 1);
    // What meets nothing.
    let mut row = without_star(1 << length);
    for byte in a.iter().rev() {
        row = if *byte == b'*' {
            // What is followed by something that meets.
            (0..7).fold(row, |row, step| row | row >> (1 << step))
        } else {
            without_star(at(*byte) & (row >> 1) | at(b'*') & row)
        };
    }
    row & 1 == 1
}

/// Which sidecars: all that is said must be so. At least one thing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// The SPIFFE ID that a certificate must prove.
    pub spiffe: Option<Glob>,
    /// A DNS name that a certificate must prove.
    pub dns_san: Option<Glob>,
    /// xDS node.id.
    pub node_id: Option<Glob>,
    /// xDS node.cluster.
    pub node_cluster: Option<Glob>,
}

impl Selector {
    /// Whether a sidecar is one of these.
    #[must_use]
    pub fn matches(&self, who: &Who<'_>) -> bool {
        let is = |glob: &Option<Glob>, text: &str| glob.as_ref().is_none_or(|glob| glob.matches(text));
        let spiffe = self.spiffe.as_ref().is_none_or(|glob| who.spiffe.is_some_and(|id| glob.matches(id)));
        let dns = self.dns_san.as_ref().is_none_or(|glob| who.dns.iter().any(|name| glob.matches(name)));
        spiffe && dns && is(&self.node_id, who.node_id) && is(&self.node_cluster, who.node_cluster)
    }

    /// How closely it names its sidecars: what is proven counts before what is only said.
    #[must_use]
    pub fn closeness(&self) -> [usize; 4] {
        self.globs().map(|glob| glob.as_ref().map_or(0, Glob::closeness))
    }

    /// Whether a sidecar can be meant by both, and equally closely.
    #[must_use]
    pub fn ties_with(&self, other: &Self) -> bool {
        let meet = |(own, other): (&Option<Glob>, &Option<Glob>)| match (own, other) {
            (Some(own), Some(other)) => own.meets(other),
            _ => true,
        };
        // A certificate can have both of two DNS names.
        let dns = usize::from(self.dns_san.is_some() && other.dns_san.is_some());
        let mut pairs = self.globs().into_iter().zip(other.globs()).enumerate();
        self.closeness() == other.closeness()
            && pairs.all(|(index, pair)| index == dns && dns == 1 || meet(pair))
    }

    const fn globs(&self) -> [&Option<Glob>; 4] {
        [&self.spiffe, &self.dns_san, &self.node_id, &self.node_cluster]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn glob(text: &str) -> Glob {
        Glob::new(text).unwrap()
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, covered) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("*b*", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(glob(pattern).matches(text), covered, "{pattern} {text}");
        }
        assert!(Glob::new("*").is_none() && Glob::new("").is_none());
    }

    #[test]
    fn ties_are_seen_before_a_sidecar_comes() {
        for (one, other, meet) in [
            ("a*", "*b", true),
            ("a*", "b*", false),
            ("a*c", "ab*", true),
            ("ab", "a*", true),
            ("ab", "ac", false),
            ("a*b*c", "ac", false),
            ("*-x-*", "a-*", true),
        ] {
            assert_eq!(glob(one).meets(&glob(other)), meet, "{one} {other}");
            assert_eq!(glob(other).meets(&glob(one)), meet, "{other} {one}");
        }
        let by_node = |text| Selector { node_id: Some(glob(text)), ..Selector::default() };
        assert!(by_node("a*").ties_with(&by_node("*b")));
        assert!(!by_node("ab*").ties_with(&by_node("a*")), "the longer one is closer");
        assert!(!by_node("a").ties_with(&by_node("b")));
        let both = Selector { node_cluster: Some(glob("c")), ..by_node("a*") };
        assert!(!both.ties_with(&by_node("a*")));
    }

    /// The same by trying everything.
    fn meet_slowly(a: &[u8], b: &[u8]) -> bool {
        match (a, b) {
            ([], []) => true,
            ([b'*', rest @ ..], other) => {
                meet_slowly(rest, other) || !other.is_empty() && meet_slowly(a, &other[1..])
            }
            (other, [b'*', rest @ ..]) => {
                meet_slowly(other, rest) || !other.is_empty() && meet_slowly(&other[1..], b)
            }
            ([x, a @ ..], [y, b @ ..]) => x == y && meet_slowly(a, b),
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn globs_meet_if_some_text_fits_both(a in "[ab*]{0,7}", b in "[ab*]{0,7}") {
            prop_assert_eq!(meet(a.as_bytes(), b.as_bytes()), meet_slowly(a.as_bytes(), b.as_bytes()), "{} {}", a, b);
        }
    }

    #[test]
    fn the_longest_globs_meet() {
        let long = |end: &str| glob(&format!("{}{end}", "*a".repeat(62)));
        assert!(long("*").meets(&long("*b")) && long("*b").meets(&long("*")));
        assert!(!long("*b").meets(&long("*c")) && !long("c").meets(&long("b")));
    }

    #[test]
    fn what_is_proven_comes_first() {
        let proven = Selector { spiffe: Some(glob("spiffe://td/*")), ..Selector::default() };
        let said = Selector { node_id: Some(glob("agent")), ..Selector::default() };
        assert!(proven.closeness() > said.closeness());
        let who = Who { spiffe: Some("spiffe://td/a"), node_id: "agent", ..Who::default() };
        assert!(proven.matches(&who) && said.matches(&who));
        assert!(!proven.matches(&Who { node_id: "agent", ..Who::default() }));
    }
}
