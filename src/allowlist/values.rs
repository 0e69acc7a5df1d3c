//! The values of an entry's keys: ports, times, methods, paths, addresses.

use super::{
    reader::Reader,
    yaml::{Node, Value},
};
use crate::policy::{Limits, Method, Mode, Note, PathPattern, Port, Ports, Timestamp};
use ipnet::IpNet;
use std::time::Duration;

/// Longest `max_tunnel`.
const MAX_TUNNEL: Duration = Duration::from_secs(365 * 24 * 3600);
/// What a value may be written in.
const QUOTES: [char; 2] = ['\u{22}', '\u{27}'];
/// Largest `upload`: 1 TiB.
const MAX_UPLOAD: u64 = 1 << 40;
/// Keys of `limits`.
pub(super) const LIMIT_KEYS: [&str; 4] = ["connections", "requests_per_minute", "upload", "idle"];
/// Longest text for people.
const MAX_NOTE: usize = 500;
/// Most values of one list.
const MAX_VALUES: usize = 100;

impl Reader<'_> {
    pub(super) fn ports(&mut self, node: &Node) -> Option<Ports> {
        const HELP: &str = "write `ports: [443]`, or several: `ports: [80, 443]`";
        let items = self.list(node, "ports", "port numbers")?;
        self.bounded_list(node, items, "write several entries")?;
        let mut ports = Vec::with_capacity(items.len());
        for item in items {
            let written = self.written(item);
            match (&item.value, Port::parse(written)) {
                (Value::Number, Ok(port)) => ports.push(port),
                (Value::Number, Err(error)) => self.refuse("ports", &item.span, error.to_string(), HELP),
                (other, _) => {
                    let found = format!("found {}, expected a port number", other.kind());
                    self.refuse("ports", &item.span, found, HELP);
                }
            }
        }
        let ports = Ports::of(ports);
        if ports.is_none() && items.is_empty() {
            self.refuse("ports", &node.span, "found no port", HELP);
        }
        ports
    }

    pub(super) fn bounded_list(&mut self, node: &Node, items: &[Node], help: &str) -> Option<()> {
        if items.len() <= MAX_VALUES {
            return Some(());
        }
        let found = format!("found {} values, at most {MAX_VALUES} are read", items.len());
        self.refuse("list-too-long", &node.span, found, help);
        None
    }

    pub(super) fn methods(&mut self, node: &Node) -> Option<Vec<Method>> {
        let read = |text: &str| {
            Method::parse(text).map_err(|why| {
                let upper = text.to_ascii_uppercase();
                let help = match Method::parse(&upper) {
                    Ok(_) => format!("write {upper}"),
                    Err(_) => "write a method such as GET".to_owned(),
                };
                (why, help)
            })
        };
        self.texts(node, "methods", "methods", "methods", read)
    }

    pub(super) fn paths(&mut self, node: &Node) -> Option<Vec<PathPattern>> {
        let read = |text: &str| {
            PathPattern::parse(text)
                .map_err(|why| (why, "write /v1/models, or /v1/* for everything below /v1/".to_owned()))
        };
        self.texts(node, "paths", "paths", "paths", read)
    }

    pub(super) fn addresses(&mut self, node: &Node) -> Option<Vec<IpNet>> {
        const HELP: &str = "write a range such as 10.0.5.0/24, or one address such as 10.0.5.7";
        let read = |text: &str| {
            let range = text.parse::<IpNet>().or_else(|_| text.parse().map(|ip: std::net::IpAddr| ip.into()));
            let range = range.map_err(|_| ("this is no address range", HELP.to_owned()))?;
            if range == range.trunc() {
                Ok(range)
            } else {
                Err(("the address has more bits than the range", format!("write {}", range.trunc())))
            }
        };
        self.texts(node, "addresses", "addresses", "addresses", read)
    }

    /// A list of texts, sorted, each once and at least one.
    fn texts<T: Ord>(
        &mut self,
        node: &Node,
        key: &'static str,
        code: &'static str,
        what: &str,
        read: impl Fn(&str) -> Result<T, (&'static str, String)>,
    ) -> Option<Vec<T>> {
        let items = self.list(node, key, what)?;
        self.bounded_list(node, items, "write several entries")?;
        let mut all = Vec::with_capacity(items.len());
        for item in items {
            let Some(text) = self.text(item, "texts") else { continue };
            match read(text) {
                Ok(value) => all.push(value),
                Err((why, help)) => self.refuse(code, &item.span, format!("`{text}`: {why}"), help),
            }
        }
        if items.is_empty() {
            self.refuse(
                code,
                &node.span,
                format!("`{key}` is empty"),
                format!("name some, or take `{key}` out"),
            );
        }
        all.sort_unstable();
        all.dedup();
        (!all.is_empty()).then_some(all)
    }

    pub(super) fn until(&mut self, node: &Node) -> Option<Timestamp> {
        const HELP: &str =
            "write a date (it counts to its end, UTC), or a time with a zone: until: 2026-12-31T18:00:00Z";
        // A date may also be what YAML calls something else.
        let text = match &node.value {
            Value::Text(text) => text.as_str(),
            _ => self.written(node),
        };
        match Timestamp::parse(text) {
            Ok(until) => Some(until),
            Err(expected) => {
                self.refuse("until", &node.span, format!("found `{text}`, expected {expected}"), HELP);
                None
            }
        }
    }

    pub(super) fn max_tunnel(&mut self, node: &Node) -> Option<Duration> {
        let written = self.written(node);
        let duration = duration(written.trim_matches(QUOTES));
        if duration.is_none() {
            self.refuse(
                "max-tunnel",
                &node.span,
                format!("found `{written}`, expected a duration of at most a year"),
                "write a number and s, m, h or d, such as 30m or 8h",
            );
        }
        duration
    }

    /// A number above zero.
    pub(super) fn count(&mut self, node: &Node, key: &str) -> Option<u32> {
        let written = self.written(node).trim_matches(QUOTES).to_owned();
        let count = written.parse().ok().filter(|count| *count > 0);
        if count.is_none() {
            let text = format!("found `{written}` for `{key}`");
            self.refuse("limits", &node.span, text, "write a whole number from 1, such as 20");
        }
        count
    }

    pub(super) fn limits(&mut self, node: &Node) -> Limits {
        let mut limits = Limits::default();
        let Some(pairs) = self.map(node, "limits") else { return limits };
        if pairs.is_empty() {
            self.refuse("limits", &node.span, "`limits` is empty", "name some, or take `limits` out");
        }
        for field in self.fields(pairs, &LIMIT_KEYS) {
            let (name, value) = (field.name, field.value);
            let written = self.written(value).trim_matches(QUOTES).to_owned();
            let mut other = |found: bool, help: &str| {
                if !found {
                    let text = format!("found `{written}` for `{name}`");
                    self.refuse("limits", &value.span, text, help);
                }
            };
            match name {
                "upload" => {
                    limits.upload = bytes(&written);
                    other(limits.upload.is_some(), "write a number and B, KiB, MiB or GiB, such as 10MiB");
                }
                "idle" => {
                    limits.idle = duration(&written);
                    other(limits.idle.is_some(), "write a number and s, m, h or d, such as 10m");
                }
                "connections" => limits.connections = self.count(value, name),
                _ => limits.requests_per_minute = self.count(value, name),
            }
        }
        limits
    }

    pub(super) fn mode(&mut self, node: &Node) -> Option<Mode> {
        let written = self.written(node);
        match (&node.value, written.trim_matches(QUOTES)) {
            (Value::Text(_), "enforce") => return Some(Mode::Enforce),
            (Value::Text(_), "report") => return Some(Mode::Report),
            (_, "open") => self.refuse(
                "mode",
                &node.span,
                "`open` would let everything pass unseen",
                "write `mode: report`, which lets pass and says so in the log",
            ),
            _ => {
                let found = format!("found `{written}`, expected enforce or report");
                self.refuse("mode", &node.span, found, "write `mode: enforce` or `mode: report`");
            }
        }
        None
    }

    /// `owner`, `reason` or `ticket`.
    pub(super) fn note(&mut self, note: &mut Note, name: &str, node: &Node) {
        let text = match &node.value {
            Value::Number => Some(self.written(node)),
            _ => self.text(node, "a text"),
        };
        let Some(text) = text else { return };
        if text.chars().count() > MAX_NOTE || text.chars().any(char::is_control) {
            let found = format!("`{name}` is longer than {MAX_NOTE} characters or has a line break");
            self.refuse("note", &node.span, found, "shorten it, and write it on one line");
            return;
        }
        let text = Some(text.to_owned());
        match name {
            "owner" => note.owner = text,
            "reason" => note.reason = text,
            _ => note.ticket = text,
        }
    }
}

/// `512B`, `64KiB`, `10MiB`, `2GiB`.
fn bytes(text: &str) -> Option<u64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("B", 0)];
    let (digits, bits) = units.into_iter().find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, bits)))?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    let count: u64 = digits.parse().ok().filter(|_| plain)?;
    count.checked_mul(1 << bits).filter(|bytes| *bytes <= MAX_UPLOAD)
}

/// `90s`, `30m`, `8h`, `2d`.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return None,
    };
    let digits = text.strip_suffix(unit)?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    let count: u64 = digits.parse().ok().filter(|_| plain)?;
    let duration = Duration::from_secs(count.checked_mul(seconds)?);
    (duration <= MAX_TUNNEL).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(
            (bytes("512B"), bytes("10MiB"), bytes("1024GiB")),
            (Some(512), Some(10 << 20), Some(1 << 40))
        );
        for wrong in ["", "10", "0B", "10MB", "2048GiB", "1.5KiB", "-1B", "KiB"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        let seconds = |text| duration(text).map(|duration| duration.as_secs());
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("2d"), Some(172_800));
        for wrong in ["", "1", "h", "0s", "01h", "-1s", "1.5h", "1w", "400d", "99999999999999999999s", "é"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
