//! "Did you mean": the known word nearest to a mistyped one.

/// The nearest of `known` within two edits (one for short words); nothing if none is that near.
#[must_use]
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let length = word.chars().count();
    let limit = if length <= 4 { 1 } else { 2 };
    known
        .iter()
        // A word can be as long as a file.
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= limit)
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((j, right), pair) in b.chars().enumerate().zip(row.windows(2)) {
            let &[diagonal, above] = pair else { continue };
            let before = next.get(j).copied().unwrap_or(0);
            next.push((above + 1).min(before + 1).min(diagonal + usize::from(left != right)));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_typos_only() {
        let known = ["allow", "deny", "version", "include"];
        assert_eq!(nearest("alow", &known), Some("allow"));
        assert_eq!(nearest("versoin", &known), Some("version"));
        assert_eq!(nearest("dney", &known), None, "two edits are too many for four letters");
        assert_eq!(nearest("hosts", &known), None);
        assert_eq!(nearest(&"allow".repeat(1_000_000), &known), None, "and at once");
    }
}
