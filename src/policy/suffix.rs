//! Public suffixes. The only caller of `psl`: its thousands of generated functions are compiled where they are
//! called, so this file is small and seldom edited.

/// What the Public Suffix List says of a name that someone wants all subdomains of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suffix {
    /// A registry's suffix such as `com` or `co.uk`, or an unlisted top-level name: anyone can register below it.
    Registry,
    /// A provider's suffix such as `github.io`: every tenant of the provider is below it.
    SharedTenant,
    /// A name below a suffix.
    Registrable,
}

/// Classifies a lower-case ASCII name.
#[must_use]
pub fn suffix_of(name: &str) -> Suffix {
    if !name.contains('.') {
        return Suffix::Registry;
    }
    match psl::suffix(name.as_bytes()) {
        Some(suffix) if suffix.as_bytes() == name.as_bytes() => match suffix.typ() {
            Some(psl::Type::Private) => Suffix::SharedTenant,
            Some(psl::Type::Icann) | None => Suffix::Registry,
        },
        _ => Suffix::Registrable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies_by_the_list() {
        for (name, expected) in [
            ("com", Suffix::Registry),
            ("co.uk", Suffix::Registry),
            ("test", Suffix::Registry),
            ("github.io", Suffix::SharedTenant),
            ("example.com", Suffix::Registrable),
            ("wild.test", Suffix::Registrable),
        ] {
            assert_eq!(suffix_of(name), expected, "{name}");
        }
    }
}
