//! From what one file says to rules: groups and presets are looked up, defaults filled in.
//!
//! Knows nothing of other files but their groups.

use super::{
    agent::Test,
    bounds::{
        MAX_NESTING, MAX_RANGE_PORTS, MAX_RANGES, MAX_RULES, MAX_SAME_HOST, PATH, named, ports_denied,
        weight, weight_of_denial,
    },
    diagnostic::{Diagnostic, Findings, Source, Span},
    file::{Document, Group, Named, Section},
    presets::{self, presets},
    section::Item,
    spec::{Defaults, Options, Spec},
    suggest::nearest,
};
use crate::policy::{DenyRule, Mode, Origin, Rule, Selector, Target};
use std::{collections::BTreeMap, sync::Arc};

/// The groups of all files, with the files that define them.
pub(super) type Groups<'a> = BTreeMap<&'a str, (&'a Document, &'a Group)>;

/// A rule and where it stands; nowhere if it is not written in this file.
#[derive(Clone, Debug)]
pub(super) struct Placed<R> {
    pub(super) rule: Arc<R>,
    pub(super) span: Option<Span>,
}

/// The rules of a section.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) allow: Vec<Placed<Rule>>,
    pub(super) deny: Vec<Placed<DenyRule>>,
}

/// An agent with its own rules.
#[derive(Clone, Debug)]
pub(super) struct ResolvedAgent {
    pub(super) name: Arc<str>,
    pub(super) span: Span,
    pub(super) selector: Selector,
    pub(super) mode: Option<Mode>,
    pub(super) max_connections: Option<u32>,
    pub(super) inherit: bool,
    pub(super) rules: Rules,
    pub(super) origin: Origin,
}

/// Everything that a file adds.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) source: Source,
    pub(super) mode: Option<(Mode, Span)>,
    pub(super) common: Rules,
    pub(super) agents: Vec<ResolvedAgent>,
    pub(super) tests: Vec<Test>,
}

/// Looks everything up. Errors are about this file.
pub(super) fn resolve(document: &Document, groups: &Groups<'_>) -> Result<Resolved, Findings> {
    let mut resolver = Resolver { document, groups, found: Findings::default(), rules: 0, ranges: 0 };
    let file_mode = document.mode.as_ref().map_or(Mode::Enforce, |(mode, _)| *mode);
    let common = resolver.section(&document.common, file_mode);
    let agents = document.agents.iter().map(|agent| ResolvedAgent {
        name: agent.name.as_str().into(),
        span: agent.span.clone(),
        selector: agent.selector.clone(),
        mode: agent.mode,
        max_connections: agent.max_connections,
        inherit: agent.inherit,
        rules: resolver.section(&agent.section, agent.mode.unwrap_or(file_mode)),
        origin: Origin { file: Arc::clone(&document.label), line: agent.span.line },
    });
    let agents = agents.collect();
    // Groups that nobody uses are read all the same.
    for group in document.groups.values() {
        let mut rules = Vec::new();
        let place = Place::new(document, None);
        resolver.items(&group.items, &place, &mut Vec::new(), &mut |resolver, spec, place| {
            resolver.allow(spec, place, &mut rules);
        });
    }
    if resolver.found.stops() {
        return Err(resolver.found);
    }
    let mode = document.mode.clone();
    Ok(Resolved { source: document.source.clone(), mode, common, agents, tests: document.tests.clone() })
}

struct Resolver<'a> {
    document: &'a Document,
    groups: &'a Groups<'a>,
    found: Findings,
    rules: usize,
    ranges: usize,
}

/// Where an entry is written, and where it is used.
#[derive(Clone, Copy)]
struct Place<'a> {
    defined: &'a Document,
    /// The reference in this file that leads to it; nothing if it stands in this file's own lists.
    used: Option<&'a Span>,
}

impl<'a> Place<'a> {
    const fn new(defined: &'a Document, used: Option<&'a Span>) -> Self {
        Self { defined, used }
    }

    fn origin(&self, spec: &Spec) -> Origin {
        Origin { file: Arc::clone(&self.defined.label), line: spec.span.line }
    }

    fn defaults(&self) -> &'a Defaults {
        &self.defined.defaults
    }
}

impl<'a> Resolver<'a> {
    fn refuse(&mut self, code: &'static str, span: &Span, message: String, help: String) {
        // One reference to a long list of unfit entries is one mistake.
        let known = self.found.iter().any(|old| old.code == code && old.span.as_ref() == Some(span));
        if !known {
            let found = Diagnostic::error(&self.document.source, code, span.clone(), message);
            self.found.push(found.help(help));
        }
    }

    fn section(&mut self, section: &'a Section, mode: Mode) -> Rules {
        let mut rules = Rules::default();
        for named in &section.uses {
            self.preset(named, &named.span, mode, &mut rules, 0);
        }
        let own = Place::new(self.document, None);
        self.items(&section.allow, &own, &mut Vec::new(), &mut |resolver, spec, place| {
            resolver.allow(spec, place, &mut rules.allow);
        });
        self.items(&section.deny, &own, &mut Vec::new(), &mut |resolver, spec, place| {
            resolver.deny(spec, place, mode, &mut rules.deny);
        });
        self.check_same_hosts(
            rules.allow.iter().map(|Placed { rule, span }| (&rule.target, named(rule), span.as_ref())),
        );
        self.check_same_hosts(
            rules.deny.iter().map(|Placed { rule, span }| (&rule.target, ports_denied(rule), span.as_ref())),
        );
        rules
    }

    /// Each rule of a list with its weight for its host.
    fn check_same_hosts<'r>(&mut self, rules: impl Iterator<Item = (&'r Target, usize, Option<&'r Span>)>) {
        let mut sums: BTreeMap<&Target, usize> = BTreeMap::new();
        for (target, more, span) in rules {
            let sum = sums.entry(target).or_default();
            let before = *sum;
            *sum += more;
            if before <= MAX_SAME_HOST && *sum > MAX_SAME_HOST {
                let message = format!(
                    "the entries of one list for `{target}` have more than {MAX_SAME_HOST} ports and paths, each path of each port counted"
                );
                let help = "name a range of paths (`/v1/*`), or leave some out".to_owned();
                let whole = Span::of(&self.document.source.text, 0..0);
                self.refuse("too-many-entries", span.unwrap_or(&whole), message, help);
            }
        }
    }

    fn preset(&mut self, named: &Named, used: &Span, mode: Mode, rules: &mut Rules, depth: usize) {
        let Some(preset) = presets::document(&named.name).filter(|_| depth < MAX_NESTING) else {
            let names: Vec<&str> = presets().iter().map(|preset| preset.name).collect();
            let help = match nearest(&named.name, &names) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "`exeat presets` lists them".to_owned(),
            };
            let message = format!("there is no preset `{}`", named.name);
            return self.refuse("preset-unknown", used, message, help);
        };
        for inner in &preset.common.uses {
            self.preset(inner, used, mode, rules, depth + 1);
        }
        let place = Place::new(preset, Some(used));
        for item in &preset.common.allow {
            if let Item::Entry(spec) = item
                && !self.is_full(used, 1)
            {
                self.allow(spec, &place, &mut rules.allow);
            }
        }
        for item in &preset.common.deny {
            if let Item::Entry(spec) = item
                && !self.is_full(used, 1)
            {
                self.deny(spec, &place, mode, &mut rules.deny);
            }
        }
    }

    /// Gives every entry of a list, with those of its groups, to `take`.
    fn items(
        &mut self,
        items: &'a [Item],
        place: &Place<'a>,
        path: &mut Vec<(&'a str, Option<&'a Options>)>,
        take: &mut dyn FnMut(&mut Self, &Spec, &Place<'_>),
    ) {
        for item in items {
            // References cost as much as entries: a few of them can stand for billions.
            if self.is_full(place.used.unwrap_or_else(|| item.span()), 1) {
                return;
            }
            match item {
                Item::Entry(spec) if path.iter().all(|(_, options)| options.is_none()) => {
                    take(self, spec, place);
                }
                Item::Entry(spec) => {
                    // What is said where a group is used counts before what its entries say.
                    let own = spec.options.as_deref().cloned().unwrap_or_default();
                    let options = path.iter().rev().filter_map(|(_, options)| *options);
                    let options = options.fold(own, |inner, outer| outer.or(&inner));
                    let spec = Spec { options: Some(Box::new(options)), ..spec.clone() };
                    take(self, &spec, place);
                }
                Item::Group { name, options, span } => {
                    self.group(name, options.as_deref(), span, place, path, take);
                }
            }
        }
    }

    fn group(
        &mut self,
        name: &'a str,
        options: Option<&'a Options>,
        span: &'a Span,
        place: &Place<'a>,
        path: &mut Vec<(&'a str, Option<&'a Options>)>,
        take: &mut dyn FnMut(&mut Self, &Spec, &Place<'_>),
    ) {
        let used = place.used.unwrap_or(span);
        if path.iter().any(|(known, _)| *known == name) {
            let message = format!("group `{name}` is in itself");
            return self.refuse(
                "group-cycle",
                used,
                message,
                format!("take `@{name}` out of one of the two"),
            );
        }
        if path.len() >= MAX_NESTING {
            let message = format!("groups are nested deeper than {MAX_NESTING}");
            return self.refuse("group-cycle", used, message, "write the hosts out".to_owned());
        }
        let Some((defined, group)) = self.groups.get(name).copied() else {
            let help = self.instead_of(name);
            return self.refuse("group-unknown", used, format!("there is no group `{name}`"), help);
        };
        path.push((name, options));
        self.items(&group.items, &Place::new(defined, Some(used)), path, take);
        path.pop();
    }

    /// What may have been meant by a group that does not exist.
    fn instead_of(&self, group: &str) -> String {
        // A file can name as many groups as there are, and each name is compared with all: only for what is shown.
        let names: Vec<&str> =
            if self.found.is_full() { Vec::new() } else { self.groups.keys().copied().collect() };
        match nearest(group, &names) {
            Some(known) => format!("did you mean `@{known}`?"),
            None => format!("add it: `groups: {{{group}: [a.com]}}`"),
        }
    }

    fn allow(&mut self, spec: &Spec, place: &Place<'_>, rules: &mut Vec<Placed<Rule>>) {
        match spec.allow(place.defaults(), place.origin(spec)) {
            Ok(rule) if self.is_too_much(spec, place, rule.ports.len(), weight(&rule)) => drop(rule),
            Ok(rule) => rules.push(Placed { rule: Arc::new(rule), span: self.span(spec, place) }),
            Err(problem) => self.unfit(problem, spec, place),
        }
    }

    fn deny(&mut self, spec: &Spec, place: &Place<'_>, mode: Mode, rules: &mut Vec<Placed<DenyRule>>) {
        match spec.deny(mode, place.origin(spec)) {
            Ok(rule) if self.is_too_much(spec, place, ports_denied(&rule), weight_of_denial(&rule)) => {
                drop(rule)
            }
            Ok(rule) => rules.push(Placed { rule: Arc::new(rule), span: self.span(spec, place) }),
            Err(problem) => self.unfit(problem, spec, place),
        }
    }

    fn span(&self, spec: &Spec, place: &Place<'_>) -> Option<Span> {
        std::ptr::eq(place.defined, self.document).then(|| spec.span.clone())
    }

    fn unfit(&mut self, problem: super::entry::Problem, spec: &Spec, place: &Place<'_>) {
        let span = self.span(spec, place).or_else(|| place.used.cloned());
        let span = span.unwrap_or_else(|| spec.span.clone());
        let message = match self.span(spec, place) {
            Some(_) => problem.message,
            None => format!("{} ({})", problem.message, place.origin(spec)),
        };
        self.refuse(problem.code, &span, message, problem.help);
    }

    fn is_too_much(&mut self, spec: &Spec, place: &Place<'_>, ports: usize, weight: usize) -> bool {
        let span = place.used.unwrap_or(&spec.span).clone();
        // It was counted as one when it was come to.
        self.has_too_many_ranges(spec, &span, ports) || self.is_full(&span, weight - 1)
    }

    /// Counts, and says once when it is too much. Then nothing more is looked up.
    fn is_full(&mut self, span: &Span, more: usize) -> bool {
        let was_full = self.rules > MAX_RULES;
        self.rules += more;
        let is_full = self.rules > MAX_RULES;
        if is_full && !was_full {
            let message = format!(
                "the file makes more than {MAX_RULES} rules, each port counted, and each path {PATH} times"
            );
            self.refuse("too-many-entries", span, message, "split it into several files".to_owned());
        }
        is_full
    }

    /// Addresses have no domain to be found by: each range is compared with what nothing else matches.
    fn has_too_many_ranges(&mut self, spec: &Spec, span: &Span, ports: usize) -> bool {
        if matches!(spec.target, Target::Range(_)) && ports > MAX_RANGE_PORTS {
            let message = format!("found {ports} ports, an address range has at most {MAX_RANGE_PORTS}");
            self.refuse("too-many-entries", span, message, "name fewer ports".to_owned());
            return true;
        }
        self.ranges += usize::from(matches!(spec.target, Target::Range(_)));
        if self.ranges == MAX_RANGES + 1 {
            let message = format!("the file has more than {MAX_RANGES} address ranges");
            let help = "use host names, or fewer and larger ranges".to_owned();
            self.refuse("too-many-entries", span, message, help);
        }
        self.ranges > MAX_RANGES
    }
}
