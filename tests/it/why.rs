//! `exeat why`: the answer, the line it rests on, and what to write.

use crate::support::{exeat, finish, texts};
use std::{fs, path::Path};

fn why(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    texts(finish(exeat().current_dir(directory).arg("why").args(arguments)))
}

#[test]
fn each_answer_says_which_line_decides_and_what_to_write() {
    let directory = tempfile::tempdir().unwrap();
    let list = "- .github.test\n- api.github.test\n- \"*.wild.test\"\n- git.test:8443\n- anthropic.test\n";
    fs::write(directory.path().join("allowlist.yaml"), list).unwrap();
    for (target, code, expected) in [
        (
            "https://api.github.test/zen",
            0,
            "allowed: https://api.github.test/zen (api.github.test port 443)\n  by allowlist.yaml:2: api.github.test\n    | - api.github.test\n  \
             also covered by allowlist.yaml:1: .github.test\n",
        ),
        (
            "git.test",
            1,
            "denied: git.test (git.test port 443): port-not-listed\n  the host is listed, this port is not; add host:port \
             to the allowlist, or, with `tls: originate`, ask for http://\n  near: allowlist.yaml:4: git.test:8443: the host is covered, port 443 is not\n\
             to allow it, add:\n  - git.test:443\n",
        ),
        (
            "https://wild.test/",
            1,
            "denied: https://wild.test/ (wild.test port 443): not-listed\n  the host is not in the allowlist; add it there \
             if it should be reachable\n  near: allowlist.yaml:3: *.wild.test: it covers what is below wild.test, not \
             wild.test itself; .wild.test is both\nto allow it, add:\n  - wild.test\n",
        ),
        (
            "https://antropic.test/",
            1,
            "denied: https://antropic.test/ (antropic.test port 443): not-listed\n  the host is not in the allowlist; add \
             it there if it should be reachable\n  near: allowlist.yaml:5: anthropic.test: anthropic.test is spelled \
             nearly like antropic.test\nto allow it, add:\n  - antropic.test\n",
        ),
        (
            "http://git.test:443/",
            1,
            "denied: http://git.test:443/ (git.test port 443): port-not-listed\n  the host is listed, this port is not; \
             add host:port to the allowlist, or, with `tls: originate`, ask for http://\n  near: allowlist.yaml:4: git.test:8443: \
             the host is covered, port 443 is not\nto allow it, add:\n  - git.test:443\n",
        ),
    ] {
        let (exit, out, err) = why(directory.path(), &[target]);
        assert_eq!((exit, out.as_str()), (Some(code), expected), "{target}: {err}");
    }
    let (exit, out, _) = why(directory.path(), &["http://api.github.test:443/", "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(exit, Some(1));
    assert_eq!((&answer["verdict"], &answer["reason"]), (&"deny".into(), &"not-tls".into()));
    assert_eq!(answer["rule"]["place"], "allowlist.yaml:2");
    assert_eq!(answer["add"], "", "no entry would help");
}

#[test]
fn what_cannot_be_said_is_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("broken.yaml"), "- *.a.test\n").unwrap();
    let (exit, _, err) = why(directory.path(), &["a.test", "--allowlist", "broken.yaml"]);
    assert_eq!(exit, Some(2));
    assert!(err.contains("exeat check says what is wrong"), "{err}");
    let (exit, _, err) = why(directory.path(), &["ftp://a.test"]);
    assert_eq!(exit, Some(2));
    assert!(err.contains("write http or https"), "{err}");
}
